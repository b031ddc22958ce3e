/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"
#include "tests/unit/unit.h"
START_TEST(nothing) { } END_TEST
int main(void) { return unit_run("metafs", nothing, NULL); }
