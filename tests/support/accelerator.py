"""Where the tests of Lightning train: on the CPU, or on what TUNEHOOK_TEST_ACCELERATOR names, such as ``gpu``."""

from __future__ import annotations

import os

ACCELERATOR = os.environ.get("TUNEHOOK_TEST_ACCELERATOR", "cpu")
