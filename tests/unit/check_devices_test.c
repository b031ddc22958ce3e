/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The check on damages of devices: labels, file tables, RocksDB's files and data; and the dump, which shares its way in. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "io/cleanup.h"
#include "io/crc.h"
#include "io/device.h"
#include "io/sim.h"
#include "meta/dump.h"
#include "meta/metafs_table.h"
#include "tests/unit/check_rig.h"
#include "tests/unit/unit.h"

START_TEST(labels_are_repaired)
{
	struct check_result r;
	struct rig rig;

	rig_copy(&base, &rig);
	flip(rig.dev[1], DEVICE_BYTES - 65536 + 300);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_ptr_nonnull(strstr(output, "label B is damaged"));
	ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
	ck_assert_uint_eq(r.left, 0);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_uint_eq(r.found, 0);
	flip(rig.dev[1], 80);
	ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
	ck_assert_ptr_nonnull(strstr(output, "label A is damaged"));
	flip(rig.dev[1], 80);
	flip(rig.dev[1], DEVICE_BYTES - 65536 + 300);
	ck_assert_int_eq(run_check(&rig, true, false, &r), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(output, "both labels are damaged"));
	rig_free(&rig);
}
END_TEST

/* What a later version has added may be looked past, but not be written past. */
START_TEST(newer_pools_are_not_repaired)
{
	struct label_found copies;
	struct check_result r;
	struct label label;
	struct rig rig;

	for (unsigned kind = 0; kind < 2; kind++) {
		rig_copy(&base, &rig);
		rig_open(&rig, false);
		put_holders(&rig, rig.data_zone, 0, 6, 1);
		rig_shut(&rig);
		for (unsigned i = 0; i < DEVICES; i++) {
			label = rig.labels[i];
			label.minor += kind;
			label.ro_compat |= kind ? 0 : UINT64_C(1) << 60;
			ck_assert_int_eq(label_write(rig.dev[i], &label), 0);
		}
		flip(rig.dev[0], 80);
		ck_assert_int_eq(run_check(&rig, true, false, &r), -EROFS);
		ck_assert_msg(strstr(output, "a newer version") != NULL, "%s", output);
		ck_assert_int_eq(label_read(rig.dev[0], &label, &copies), 0);
		ck_assert_int_eq(copies.error[0], -EBADMSG);
		ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
		ck_assert_msg(strstr(output, "block 5 has 1 holders, and 0 by the maps") != NULL, "%s", output);
		rig_free(&rig);
	}
}
END_TEST

START_TEST(tables_are_repaired)
{
	struct check_result r;
	struct rig rig;

	for (unsigned slot = 0; slot < 2; slot++) {
		rig_copy(&base, &rig);
		flip(rig.dev[0], label_slot_offset(&rig.labels[0], slot) + 40);
		ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
		ck_assert_ptr_nonnull(strstr(output, "of the file table is damaged"));
		ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
		ck_assert_msg(r.left == 0, "%s", output);
		ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
		ck_assert_msg(r.found == 0, "%s", output);
		rig_free(&rig);
	}
}
END_TEST

/* "repaired" is said of what was: not of a slot when the pool cannot be opened to write it. */
START_TEST(what_is_not_repaired_is_not_called_so)
{
	const struct sim_faults broken = { .fail_write_ppm = 1000000 };
	struct check_result r;
	struct rig rig;

	rig_copy(&base, &rig);
	flip(rig.dev[0], label_slot_offset(&rig.labels[0], 0) + 40);
	flip(rig.dev[1], 80);
	for (unsigned i = 0; i < DEVICES; i++)
		sim_set_faults(rig.dev[i], &broken);
	ck_assert_int_ne(run_check(&rig, true, false, &r), 0);
	ck_assert_msg(strstr(output, "slot 0 of the file table is damaged") != NULL, "%s", output);
	ck_assert_msg(strstr(output, "label A is damaged") != NULL, "%s", output);
	ck_assert_msg(strstr(output, "the label cannot be written") != NULL, "%s", output);
	ck_assert_ptr_null(strstr(output, "repaired"));
	ck_assert_uint_eq(r.repaired, 0);
	ck_assert_uint_eq(r.left, r.found);
	rig_free(&rig);
}
END_TEST

/* A slot whose table cannot be is one problem, and gets another table. */
START_TEST(impossible_tables_are_repaired)
{
	static uint8_t slot[2 << 20] __attribute__((aligned(4096)));
	struct check_result r;
	struct rig rig;
	uint64_t at;

	for (unsigned kind = 0; kind < 2; kind++) {
		rig_copy(&base, &rig);
		at = label_slot_offset(&rig.labels[0], 1);
		ck_assert_uint_le(rig.labels[0].slot_bytes, sizeof(slot));
		ck_assert_int_eq(device_read(rig.dev[0], slot, rig.labels[0].slot_bytes, at), 0);
		if (kind)
			slot[24] ^= 1;             /* the pool's UUID */
		else
			put_le32(slot + 96 + 8, 0); /* zones of the first range */
		put_le32(slot + 8, 0);
		put_le32(slot + 8, crc32c(0, slot, get_le32(slot + 12)));
		ck_assert_int_eq(device_write(rig.dev[0], slot, rig.labels[0].slot_bytes, at, 0), 0);
		ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
		ck_assert_msg(strstr(output, kind ? "slot 1 of the file table is of another pool" :
						    "slot 1 of the file table is invalid: zones 0+0") != NULL, "%s", output);
		ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
		ck_assert_msg(r.left == 0 && r.found == r.repaired, "%s", output);
		ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
		ck_assert_msg(r.found == 0, "%s", output);
		rig_free(&rig);
	}
}
END_TEST

/* The address in bytes of what begins a file whose name ends like this, by the newest table. */
static uint64_t file_address(struct rig *rig, const char *ending, unsigned *vdev)
{
	const struct label *label = &rig->labels[0];
	cleanup_free void *buf = aligned_alloc(4096, label->slot_bytes);
	uint64_t newest = 0, address = 0;

	for (unsigned slot = 0; slot < 2; slot++) {
		struct metafs_table t;

		ck_assert_int_eq(device_read(rig->dev[0], buf, label->slot_bytes, label_slot_offset(label, slot)), 0);
		if (metafs_table_decode(buf, label->slot_bytes, &t))
			continue;
		for (unsigned i = 0; t.generation > newest && i < t.files; i++) {
			const struct metafs_table_file *f = &t.file[i];
			const size_t len = strlen(ending);

			if (f->name_len < len || memcmp(f->name + f->name_len - len, ending, len) || !f->extents ||
			    f->size < 600)
				continue;
			address = f->extent[0].block * 4096;
			*vdev = f->extent[0].vdev;
		}
		if (t.generation > newest)
			newest = t.generation;
		metafs_table_free(&t);
	}
	ck_assert_uint_ne(address, 0);
	return address;
}

START_TEST(tables_of_rocksdb_are_read)
{
	struct check_result r;
	struct rig rig;
	unsigned vdev = 0;
	uint64_t at;

	rig_copy(&base, &rig);
	rig_open(&rig, false);
	ck_assert_int_eq(db_flush(rig.db), 0);
	rig_shut(&rig);
	at = file_address(&rig, ".sst", &vdev);
	flip(rig.dev[vdev], at + 100);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_msg(strstr(output, "RocksDB cannot read all of "), "%s", output);
	ck_assert_uint_gt(r.left, 0);
	/* What cannot be read must not be taken for what is not there. */
	ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
	ck_assert_uint_eq(r.repaired, 0);
	flip(rig.dev[vdev], at + 100);
	ck_assert_int_eq(run_check(&rig, false, true, &r), 0);
	ck_assert_msg(r.found == 0, "%s", output);
	rig_free(&rig);
}
END_TEST

/* The newest table of the first device; the caller's to free. */
static void newest_table(struct rig *rig, struct metafs_table *out)
{
	const struct label *label = &rig->labels[0];
	cleanup_free void *buf = aligned_alloc(4096, label->slot_bytes);
	struct metafs_table t;

	*out = (struct metafs_table){ 0 };
	for (unsigned slot = 0; slot < 2; slot++) {
		ck_assert_int_eq(device_read(rig->dev[0], buf, label->slot_bytes, label_slot_offset(label, slot)), 0);
		if (metafs_table_decode(buf, label->slot_bytes, &t))
			continue;
		if (t.generation <= out->generation) {
			metafs_table_free(&t);
			continue;
		}
		metafs_table_free(out);
		*out = t;
	}
	ck_assert_uint_ne(out->generation, 0);
}

/* One bit of one byte of a file is another: found, never repaired, and nothing is lost by trying to. */
static void flip_in_file(struct rig *rig, const struct metafs_table_file *f, uint64_t byte)
{
	struct check_result r;
	struct rig copy;
	int err;

	for (unsigned repair = 0; repair < 2; repair++) {
		rig_copy(rig, &copy);
		ck_assert_uint_lt(byte, f->extent[0].blocks * 4096ull);
		flip(copy.dev[f->extent[0].vdev], f->extent[0].block * 4096 + byte);
		err = run_check(&copy, repair, false, &r);
		ck_assert_msg(err == -EBADMSG || (!err && r.left > 0), "%.*s byte %llu: %d, %s", (int)f->name_len, f->name,
			      (unsigned long long)byte, err, output);
		ck_assert_uint_eq(r.repaired, 0);
		rig_free(&copy);
	}
}

#define SST_FOOTER_BYTES 53u /* most of it is padding; its end is a number that says what the file is */

static uint64_t bytes_that_count(const struct metafs_table_file *f)
{
	if (f->kind != METAFS_PLAIN)
		return f->blocks * 4096;
	return f->size > SST_FOOTER_BYTES ? f->size - SST_FOOTER_BYTES : f->size;
}

/* Tables with their filters and indexes, logs to their last block, and what says which MANIFEST counts. */
START_TEST(all_of_rocksdbs_files_is_checked)
{
	unsigned tables = 0, logs = 0, manifests = 0, currents = 0;
	const struct tenant_rec tenant = { .name = "default", .name_len = 7 };
	struct metafs_table t;
	struct rig rig;

	rig_copy(&base, &rig);
	rig_open(&rig, false);
	ck_assert_int_eq(db_flush(rig.db), 0);
	for (unsigned i = 0; i < 3; i++) {
		put(&rig, DB_SYS, key, key_tenant(key, 1), value, tenant_rec_encode(&tenant, value));
		ck_assert_int_eq(db_sync(rig.db), 0);
	}
	rig_shut(&rig);
	newest_table(&rig, &t);
	for (unsigned i = 0; i < t.files; i++) {
		const struct metafs_table_file *f = &t.file[i];

		/* RocksDB writes these for people and reads neither. */
		if (!strncmp(f->name, "OPTIONS", 7) || !strncmp(f->name, "IDENTITY", 8))
			continue;
		ck_assert_uint_eq(f->extents, 1);
		ck_assert_uint_gt(bytes_that_count(f), 0);
		tables += f->kind == METAFS_PLAIN && f->name_len > 4 && !memcmp(f->name + f->name_len - 4, ".sst", 4);
		logs += f->kind == METAFS_WAL ? f->blocks : 0;
		manifests += f->kind == METAFS_LOG;
		currents += f->name_len == 7 && !memcmp(f->name, "CURRENT", 7);
		for (uint64_t byte = 3; byte < bytes_that_count(f); byte += f->kind == METAFS_PLAIN ? 53 : 1021)
			flip_in_file(&rig, f, byte);
		if (f->size > SST_FOOTER_BYTES && f->kind == METAFS_PLAIN)
			flip_in_file(&rig, f, f->size - 3);
	}
	ck_assert_uint_ge(tables, 4);
	ck_assert_uint_eq(logs, 3);
	ck_assert_uint_eq(manifests, 1);
	ck_assert_uint_eq(currents, 1);
	metafs_table_free(&t);
	rig_free(&rig);
}
END_TEST

/* One record of each kind that docs/format.md has, with one bit of its type flipped below RocksDB's checksums. */
struct kinds {
	struct rig *rig;
	enum db_cf cf;
	unsigned n;
	char seen[64];
};

static void flip_in_record(struct rig *rig, enum db_cf cf, const void *k, size_t k_len, const void *v, size_t len)
{
	cleanup_free uint8_t *changed = malloc(len);
	struct check_result r;
	struct rig copy;

	memcpy(changed, v, len);
	changed[0] ^= 4;
	rig_copy(rig, &copy);
	rig_open(&copy, false);
	put(&copy, cf, k, k_len, changed, len);
	rig_shut(&copy);
	ck_assert_int_eq(run_check(&copy, false, false, &r), 0);
	ck_assert_msg(r.left > 0 && (strstr(output, ": damaged") || strstr(output, "malformed")), "%c in %d: %s",
		      *(const char *)v, cf, output);
	rig_free(&copy);
}

static void flip_in_records(struct kinds *kinds)
{
	struct rig look;
	size_t k_len, len;
	struct db_iter *it;

	rig_copy(kinds->rig, &look);
	rig_open(&look, false);
	it = db_iter_new(look.db, kinds->cf, NULL, 0, NULL, 0, 0);
	for (db_iter_first(it); db_iter_valid(it); db_iter_next(it)) {
		const void *k = db_iter_key(it, &k_len);
		const char *v = db_iter_value(it, &len);

		if (strchr(kinds->seen, *v))
			continue;
		ck_assert_uint_lt(kinds->n + 1, sizeof(kinds->seen));
		kinds->seen[kinds->n++] = *v;
		flip_in_record(kinds->rig, kinds->cf, k, k_len, v, len);
	}
	ck_assert_int_eq(db_iter_error(it), 0);
	db_iter_free(it);
	rig_shut(&look);
	rig_free(&look);
}

START_TEST(each_kind_of_record_is_checked)
{
	const struct cut_rec cut = { .first_chunk = 1, .end_chunk = 2 };
	const struct result_rec result = { .unique = 1 };
	struct rig rig;
	struct kinds kinds = { .rig = &rig };

	rig_copy(&base, &rig);
	rig_open(&rig, false);
	put(&rig, DB_NS, key, key_cut(key, TREE, FILE_PLAIN, 1, NODE), value, cut_rec_encode(&cut, value));
	put(&rig, DB_SYS, key, key_result(key, 0, 0), value, result_rec_encode(&result, value));
	rig_shut(&rig);
	for (kinds.cf = 0; kinds.cf < DB_CF_COUNT; kinds.cf++)
		flip_in_records(&kinds);
	for (const char *kind = "ISDXOTMZPVNFnCEeR"; *kind; kind++)
		ck_assert_msg(strchr(kinds.seen, *kind), "no %c among %s", *kind, kinds.seen);
	rig_free(&rig);
}
END_TEST

START_TEST(members_are_needed)
{
	struct check_options options = { 0 };
	struct check_result r;
	struct device *twice[2] = { base.dev[0], base.dev[0] }, *empty;
	struct label_found copies;
	struct label label;
	struct rig rig;

	ck_assert_int_eq(check_pool(base.dev, 1, &options, &r), -ENXIO);
	/* Who named too few gets an error, and nothing is changed. */
	rig_copy(&base, &rig);
	flip(rig.dev[0], 80);
	options.repair = true;
	ck_assert_int_eq(check_pool(rig.dev, 1, &options, &r), -ENXIO);
	ck_assert_int_eq(label_read(rig.dev[0], &label, &copies), 0);
	ck_assert_int_eq(copies.error[0], -EBADMSG);
	options.repair = false;
	rig_free(&rig);
	ck_assert_int_eq(check_pool(twice, 2, &options, &r), -EINVAL);
	ck_assert_int_eq(device_sim_create(DEVICE_BYTES, NULL, &empty), 0);
	ck_assert_int_eq(check_pool(&empty, 1, &options, &r), -ENOENT);
	device_close(empty);
}
END_TEST

/* Names come from the device, and lines go to a terminal. */
START_TEST(names_are_shown_harmless)
{
	static const char clear[] = "\x1b[2J\ngone";
	const struct dump_request request = { .what = DUMP_INODE, .inode = "3" };
	struct check_result r;
	struct rig rig;
	FILE *f;

	rig_copy(&base, &rig);
	rig_open(&rig, false);
	put_entry(&rig, FOLDER, clear, 77, S_IFREG);
	del(&rig, DB_NS, key, key_dirent(key, TREE, FOLDER, cookie(&rig, "file"), NODE));
	put_entry(&rig, FOLDER, "f\xc3\xbc\x9b", FILE_PLAIN, S_IFREG);
	rig_shut(&rig);
	flip(rig.dev[0], rig.data_block * 4096);
	ck_assert_int_eq(run_check(&rig, false, true, &r), 0);
	ck_assert_msg(strstr(output, "the entry \\x1b[2J\\x0agone leads to inode 77") != NULL, "%s", output);
	ck_assert_msg(strstr(output, "(/dir/f\xc3\xbc\\x9b) offset 0: wrong checksum") != NULL, "%s", output);
	ck_assert_ptr_null(strchr(output, '\x1b'));
	f = fmemopen(output, sizeof(output), "w");
	ck_assert_int_eq(dump_pool(rig.dev, DEVICES, &request, f, f), 0);
	fclose(f);
	ck_assert_msg(strstr(output, "inode 3 path /dir/f\xc3\xbc\\x9b\n") != NULL, "%s", output);
	rig_free(&rig);
}
END_TEST

START_TEST(data_is_read)
{
	struct check_result r;
	struct rig rig;

	rig_copy(&base, &rig);
	flip(rig.dev[0], rig.data_block * 4096 + 2 * 4096 + 17);
	flip(rig.dev[0], (rig.data_block + 4) * 4096 + 1);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_uint_eq(r.found, 0);
	ck_assert_int_eq(run_check(&rig, false, true, &r), 0);
	ck_assert_uint_eq(r.found, 2);
	ck_assert_uint_eq(r.left, 2);
	ck_assert_msg(strstr(output, "subvolume web: inode 3 (/dir/file) offset 8192: wrong checksum at "),
		      "%s", output);
	ck_assert_msg(strstr(output, "offset 24576: wrong checksum at "), "%s", output);
	rig_free(&rig);
}
END_TEST

/* ---- dump ---- */

static void dump(enum dump_what what, const char *inode, int expected)
{
	const struct dump_request request = { .what = what, .inode = inode };
	FILE *f = fmemopen(output, sizeof(output), "w");

	ck_assert_int_eq(dump_pool(base.dev, DEVICES, &request, f, f), expected);
	fclose(f);
}

START_TEST(dump_prints)
{
	enum dump_what what;

	ck_assert_int_eq(dump_what_parse("map", &what), 0);
	ck_assert_uint_eq(what, DUMP_MAP);
	ck_assert_int_eq(dump_what_parse("maps", &what), -EINVAL);
	dump(DUMP_ALL, NULL, 0);
	ck_assert_ptr_nonnull(strstr(output, "label B"));
	ck_assert_ptr_nonnull(strstr(output, "slot 1"));
	ck_assert_ptr_nonnull(strstr(output, "subvolume 1: \"web\" tree 1 node 1"));
	ck_assert_ptr_nonnull(strstr(output, "tree 1 map of 3 chunk 0 node 1: sequence 0x1 [0+4 @0:"));
	ck_assert_ptr_nonnull(strstr(output, "\"hard\" -> file 4"));
	dump(DUMP_INODE, "/dir/file", 0);
	ck_assert_ptr_nonnull(strstr(output, "subvolume web inode 3 path /dir/file\n"));
	ck_assert_ptr_nonnull(strstr(output, "xattr of 3 \"system.posix_acl_access\""));
	ck_assert_ptr_nonnull(strstr(output, "[4+2 unwritten]"));
	ck_assert_ptr_null(strstr(output, "inode 4"));
	dump(DUMP_INODE, "6", 0);
	ck_assert_ptr_nonnull(strstr(output, "orphan 6 node 1: unlinked"));
	dump(DUMP_INODE, "/dir/none", -ENOENT);
	dump(DUMP_INODE, "999", -ENOENT);
	ck_assert_ptr_nonnull(strstr(output, "subvolume web has no inode 999"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("check_devices");
	TCase *tcase = tcase_create("check_devices");

	log_set_sink(drop_line, NULL);
	tcase_add_checked_fixture(tcase, base_make, base_free);
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_test(tcase, labels_are_repaired);
	tcase_add_test(tcase, newer_pools_are_not_repaired);
	tcase_add_test(tcase, tables_are_repaired);
	tcase_add_test(tcase, what_is_not_repaired_is_not_called_so);
	tcase_add_test(tcase, impossible_tables_are_repaired);
	tcase_add_test(tcase, tables_of_rocksdb_are_read);
	tcase_add_test(tcase, all_of_rocksdbs_files_is_checked);
	tcase_add_test(tcase, each_kind_of_record_is_checked);
	tcase_add_test(tcase, members_are_needed);
	tcase_add_test(tcase, names_are_shown_harmless);
	tcase_add_test(tcase, data_is_read);
	tcase_add_test(tcase, dump_prints);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
