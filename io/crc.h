/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_IO_CRC_H
#define NVFS_IO_CRC_H

#include <stddef.h>
#include <stdint.h>

/*
 * CRC32C (Castagnoli, reflected, as in RFC 3720 appendix B.4): crc32c(0,
 * "123456789", 9) is 0xE3069283. The result continues as the next seed:
 * crc32c(crc32c(0, a), b) is crc32c(0, ab). Any alignment, any thread.
 */
uint32_t crc32c(uint32_t seed, const void *buf, size_t len_bytes);

#endif
