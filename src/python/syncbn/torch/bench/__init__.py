# SPDX-License-Identifier: Apache-2.0
"""python -m syncbn.torch.bench: what synchronized batch norm costs on this machine, beside others.

Processes of one gloo group make steps in turns, many times: of single layers, or with --network of a
whole network. Times are medians of rank 0's, which waits for the others where layers synchronize.
"""
