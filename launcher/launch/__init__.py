# SPDX-License-Identifier: Apache-2.0
"""What launcher/run decides: from the facts about a machine to the command that starts the ranks.

Without this file Python would take another package of this name, such as ROS's, from anywhere in its path.
"""
