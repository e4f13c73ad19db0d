# SPDX-License-Identifier: Apache-2.0
"""python -m syncbn.report: pages that show what the tool `syncbn` has measured.

Each page is one HTML file that needs no network and no scripts. The package takes matplotlib and Jinja2,
and works without the binary module.
"""
