/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the allocator meets RocksDB; the rest of it does not know what a database is. */
#include "config.h"

#include <errno.h>

#include "meta/db.h"
#include "meta/space.h"

int space_load(struct space *space, struct db *db)
{
	cleanup_db_iter struct db_iter *it = db_iter_new(db, DB_SPACE, NULL, 0, NULL, 0, 0);
	size_t key_len, value_len;
	int err = 0;

	if (!it)
		return -ENOMEM;
	for (db_iter_first(it); !err && db_iter_valid(it); db_iter_next(it)) {
		const void *key = db_iter_key(it, &key_len);
		const void *value = db_iter_value(it, &value_len);

		err = space_load_entry(space, key, key_len, value, value_len);
	}
	return err ? err : db_iter_error(it);
}

struct batch_put {
	struct db *db;
	struct db_batch *batch;
};

static int put_into_batch(void *arg, const void *key, size_t key_len, const void *operand,
			  size_t operand_len)
{
	const struct batch_put *to = arg;

	db_batch_merge(to->db, to->batch, DB_SPACE, key, key_len, operand, operand_len);
	return 0;
}

int space_ops_put(struct space_ops *ops, struct db *db, struct db_batch *batch)
{
	struct batch_put to = { db, batch };

	return space_ops_emit(ops, put_into_batch, &to);
}
