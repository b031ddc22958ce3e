/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "meta/data_internal.h"
#include "meta/known.h"
#include "meta/shared.h"

#define BUFFERS_BYTES ((size_t)32 << 20) /* of address space: of what was never needed, one page a MiB */

int shared_create(struct pool *pool, struct shared **out)
{
	struct shared *shared = calloc(1, sizeof(*shared));

	if (!shared)
		return -ENOMEM;
	shared->pool = pool;
	if (known_names_create(&shared->names) || buffers_create(NULL, NULL, BUFFERS_BYTES, &shared->buffers)) {
		shared_destroy(shared);
		return -ENOMEM;
	}
	*out = shared;
	return 0;
}

void shared_destroy(struct shared *shared)
{
	if (!shared)
		return;
	op_io_free_all(shared);
	writings_free(shared);
	buffers_destroy(shared->buffers);
	known_names_destroy(shared->names);
	free(shared);
}
