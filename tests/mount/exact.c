/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nvfs-exact: fills a mounted subvolume in every way there is, and checks each step's statfs(2).
 *
 *     nvfs-exact DIR --blocks N --inodes N [--beyond BLOCKS,INODES] [--only NAME]... [--skip NAME]... [--verbose]
 *     nvfs-exact DIR --blocks N --inodes N --busy
 *     nvfs-exact --list
 *
 * DIR is the root of an empty subvolume with these limits; with --beyond they are its tenant's, of which it is the only one, and its own are
 * that much higher. One line per case, as nvfs-ops has them. --busy is exact_busy().
 */
#include "config.h"

#include "exact.h"
#include "ops_harness.h"

#include <fnmatch.h>
#include <getopt.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <time.h>

#define IN_TIME_SECONDS 40

static const struct op_case *const groups[] = { exact_fill, exact_space, exact_names, exact_crowd };

struct exact_volume exact;

struct options {
	const char *dir;
	bool list, verbose, busy;
	const char *only[64], *skip[64];
	unsigned only_count, skip_count;
};

/* ---- what cases share ---- */

uint64_t exact_free(void)
{
	struct statvfs st;

	return statvfs(".", &st) ? UINT64_MAX : st.f_bfree - exact.beyond_blocks;
}

/* What has to be true at any moment. */
static bool sound(struct t *t, int line, struct statvfs *st)
{
	if (statvfs(".", st)) {
		ops_fail(t, line, "statvfs: %s", strerror(errno));
		return false;
	}
	if (st->f_frsize == BLOCK && st->f_blocks == exact.blocks + exact.beyond_blocks &&
	    st->f_files == exact.inodes + exact.beyond_inodes && st->f_bfree <= st->f_blocks && st->f_bfree >= exact.beyond_blocks &&
	    st->f_bavail == st->f_bfree && st->f_ffree <= st->f_files && st->f_ffree >= exact.beyond_inodes &&
	    st->f_favail == st->f_ffree) {
		st->f_bfree -= exact.beyond_blocks;
		st->f_ffree -= exact.beyond_inodes;
		return true;
	}
	ops_fail(t, line, "statvfs: %llu of %llu blocks free, %llu available; %llu of %llu inodes free",
		 (unsigned long long)st->f_bfree, (unsigned long long)st->f_blocks, (unsigned long long)st->f_bavail,
		 (unsigned long long)st->f_ffree, (unsigned long long)st->f_files);
	return false;
}

bool exact_left(struct t *t, int line, uint64_t blocks)
{
	struct statvfs st;

	if (!sound(t, line, &st))
		return false;
	if (st.f_bfree == blocks)
		return true;
	ops_fail(t, line, "%llu blocks are left, should be %llu", (unsigned long long)st.f_bfree, (unsigned long long)blocks);
	return false;
}

bool exact_inodes_left(struct t *t, int line, uint64_t inodes)
{
	struct statvfs st;

	if (!sound(t, line, &st))
		return false;
	if (st.f_ffree == inodes)
		return true;
	ops_fail(t, line, "%llu inodes are left, should be %llu", (unsigned long long)st.f_ffree, (unsigned long long)inodes);
	return false;
}

bool exact_left_in_time(struct t *t, int line, uint64_t blocks)
{
	const struct timespec step = { .tv_nsec = 2000000 };
	const time_t end = time(NULL) + IN_TIME_SECONDS;
	struct statvfs st;

	while (sound(t, line, &st) && st.f_bfree < blocks && time(NULL) < end)
		nanosleep(&step, NULL);
	return exact_left(t, line, blocks);
}

bool exact_inodes_left_in_time(struct t *t, int line, uint64_t inodes)
{
	const struct timespec step = { .tv_nsec = 2000000 };
	const time_t end = time(NULL) + IN_TIME_SECONDS;
	struct statvfs st;

	while (sound(t, line, &st) && st.f_ffree < inodes && time(NULL) < end)
		nanosleep(&step, NULL);
	return exact_inodes_left(t, line, inodes);
}

int exact_file(struct t *t, const char *name, int flags)
{
	return ops_fd(t, 0, name, open(name, O_RDWR | O_CREAT | flags, 0644));
}

void *exact_buffer(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

void exact_pattern(void *buf, size_t len, uint64_t seed, uint64_t offset)
{
	uint64_t *p = buf;

	for (size_t i = 0; i < len / sizeof(*p); i++)
		p[i] = ((offset / sizeof(*p) + i + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ seed * UINT64_C(0xD1B54A32D192ED03)) | 1;
}

bool exact_reads(int fd, uint64_t offset, uint64_t len, uint64_t seed)
{
	static uint8_t got[1 << 16], want[1 << 16];

	for (uint64_t at = 0, n; at < len; at += n) {
		n = len - at < sizeof(got) ? len - at : sizeof(got);
		if (pread(fd, got, n, (off_t)(offset + at)) != (ssize_t)n)
			return false;
		exact_pattern(want, sizeof(want), seed, offset + at);
		if (memcmp(got, want, n))
			return false;
	}
	return true;
}

uint64_t exact_blocks(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? UINT64_MAX : (uint64_t)st.st_blocks / (BLOCK / 512);
}

/* ---- the run ---- */

static bool named(const char *name, const char *const *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!fnmatch(list[i], name, 0))
			return true;
	return false;
}

/* The last case's files are gone, its unlinked ones too: nothing is left but the root. */
static bool empty_again(const char *dir)
{
	const struct timespec step = { .tv_nsec = 2000000 };
	const time_t end = time(NULL) + IN_TIME_SECONDS;
	const uint64_t blocks = exact.blocks + exact.beyond_blocks, inodes = exact.inodes + exact.beyond_inodes - 1;
	struct statvfs st;

	while (!statvfs(dir, &st) && (st.f_bfree != blocks || st.f_ffree != inodes) && time(NULL) < end)
		nanosleep(&step, NULL);
	return st.f_bfree == blocks && st.f_ffree == inodes;
}

static bool run_one(const struct options *o, const struct op_case *oc, struct ops_result *res)
{
	static const char *const words[] = { [OPS_PASSED] = "ok", [OPS_FAILED] = "not ok", [OPS_SKIPPED] = "skip" };

	ops_run_case(oc, o->dir, 0, 0, res);
	if (o->verbose)
		fputs(res->log, stdout);
	if (!empty_again(o->dir) && res->status == OPS_PASSED) {
		res->status = OPS_FAILED;
		strcpy(res->reason, "not all of it came back when its files were gone");
	}
	printf("%s %s%s%s\n", words[res->status], oc->name, res->status == OPS_PASSED ? "" : " ",
	       res->status == OPS_PASSED ? "" : res->reason);
	fflush(stdout);
	return res->status == OPS_PASSED;
}

static int usage(void)
{
	fputs("usage: nvfs-exact DIR --blocks N --inodes N [--beyond BLOCKS,INODES] [--only NAME]... [--skip NAME]... [--verbose]\n"
	      "       nvfs-exact DIR --blocks N --inodes N --busy\n"
	      "       nvfs-exact --list\n",
	      stderr);
	return 2;
}

static bool beyond(const char *text)
{
	unsigned long long blocks, inodes;

	if (sscanf(text, "%llu,%llu", &blocks, &inodes) != 2)
		return false;
	exact.beyond_blocks = blocks;
	exact.beyond_inodes = inodes;
	return true;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "blocks", required_argument, NULL, 'b' }, { "inodes", required_argument, NULL, 'i' },
		{ "beyond", required_argument, NULL, 'b' + 256 }, { "only", required_argument, NULL, 'o' },
		{ "skip", required_argument, NULL, 's' },   { "verbose", no_argument, NULL, 'v' },
		{ "list", no_argument, NULL, 'l' },         { "busy", no_argument, NULL, 'B' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	exact.full = ENOSPC;
	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (opt == 'b')
			exact.blocks = strtoull(optarg, NULL, 10);
		else if (opt == 'i')
			exact.inodes = strtoull(optarg, NULL, 10);
		else if (opt == 'b' + 256 && beyond(optarg))
			exact.full = EDQUOT;
		else if (opt == 'o' && o->only_count < sizeof(o->only) / sizeof(o->only[0]))
			o->only[o->only_count++] = optarg;
		else if (opt == 's' && o->skip_count < sizeof(o->skip) / sizeof(o->skip[0]))
			o->skip[o->skip_count++] = optarg;
		else if (opt == 'v')
			o->verbose = true;
		else if (opt == 'B')
			o->busy = true;
		else if (opt == 'l')
			o->list = true;
		else
			return usage();
	}
	if (!o->list && (argc - optind != 1 || !exact.blocks || !exact.inodes))
		return usage();
	o->dir = argv[optind];
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	unsigned ran = 0, passed = 0;
	struct ops_result *res;
	int rc = parse(argc, argv, &o);

	if (rc)
		return rc;
	if (o.busy)
		return exact_busy(o.dir);
	res = mmap(NULL, sizeof(*res), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (res == MAP_FAILED)
		return 2;
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
		for (const struct op_case *oc = groups[g]; oc->name; oc++) {
			if (named(oc->name, o.skip, o.skip_count) || (o.only_count && !named(oc->name, o.only, o.only_count)))
				continue;
			if (o.list) {
				puts(oc->name);
				continue;
			}
			ran++;
			passed += run_one(&o, oc, res);
		}
	}
	if (!o.list)
		printf("# %u passed, %u failed\n", passed, ran - passed);
	return passed == ran ? 0 : 1;
}
