/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Integers on the device and in keys.
 *
 * The leNN_t and beNN_t names mark a field's byte order to the reader; the compiler sees plain
 * integers. Fields of packed records are read and written through get_ and put_, which take any
 * address: nothing on the device is aligned for its own sake.
 */
#ifndef NVFS_IO_LE_H
#define NVFS_IO_LE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t le16_t;
typedef uint32_t le32_t;
typedef uint64_t le64_t;
typedef uint16_t be16_t;
typedef uint32_t be32_t;
typedef uint64_t be64_t;

#define NVFS_DEFINE_ENDIAN(order, bits)                              \
	static inline uint##bits##_t get_##order##bits(const void *p) \
	{                                                            \
		uint##bits##_t v;                                    \
                                                                     \
		memcpy(&v, p, sizeof(v));                            \
		return order##bits##toh(v);                          \
	}                                                            \
	static inline void put_##order##bits(void *p, uint##bits##_t v) \
	{                                                            \
		v = hto##order##bits(v);                             \
		memcpy(p, &v, sizeof(v));                            \
	}

/* get_le16(p), put_le16(p, v) and so on. */
NVFS_DEFINE_ENDIAN(le, 16)
NVFS_DEFINE_ENDIAN(le, 32)
NVFS_DEFINE_ENDIAN(le, 64)
NVFS_DEFINE_ENDIAN(be, 16)
NVFS_DEFINE_ENDIAN(be, 32)
NVFS_DEFINE_ENDIAN(be, 64)

#undef NVFS_DEFINE_ENDIAN

#endif
