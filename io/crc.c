/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/crc.h"

#include <isa-l/crc.h>

/* ISA-L takes an int. */
#define CRC_STEP_BYTES ((size_t)1 << 30)

/*
 * crc32_iscsi() is the bare shift register: the inversions at both ends that
 * make it CRC32C are the caller's.
 */
uint32_t crc32c(uint32_t seed, const void *buf, size_t len_bytes)
{
	unsigned char *p = (unsigned char *)(uintptr_t)buf; /* only read, but not const in ISA-L */
	uint32_t crc = ~seed;

	while (len_bytes) {
		size_t step = len_bytes < CRC_STEP_BYTES ? len_bytes : CRC_STEP_BYTES;

		crc = crc32_iscsi(p, (int)step, crc);
		p += step;
		len_bytes -= step;
	}
	return ~crc;
}
