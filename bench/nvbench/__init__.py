# SPDX-License-Identifier: GPL-2.0-or-later
"""What bench/run is made of: host (processes, clean-up), storage, sides, cases, report, picture."""
