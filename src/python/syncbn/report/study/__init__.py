# SPDX-License-Identifier: Apache-2.0
"""The page of a study of `syncbn study`: a module for each experiment, and what experiments share."""
