# SPDX-License-Identifier: Apache-2.0
"""The page of a run of `syncbn scale`: a module for each section, and what sections share."""
