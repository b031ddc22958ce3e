/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nvfs-ops: runs the cases of ops_*.c on a directory and checks them, or on two directories and compares.
 *
 *     nvfs-ops DIR [--as UID:GID] [--only NAME]... [--skip NAME]... [--mounted-with OPTIONS] [--verbose]
 *     nvfs-ops --compare DIR DIR_OF_REFERENCE [--as UID:GID] [--only NAME]... [--skip NAME]...
 *     nvfs-ops --list
 *
 * One line per case: `ok NAME`, `not ok NAME reason`, `skip NAME reason`. Exit status 0 when none failed, 1 when one
 * did, 2 for a wrong command line.
 */
#include "config.h"

#include "ops_harness.h"

#include <fnmatch.h>
#include <getopt.h>
#include <sys/mman.h>
#include <sys/vfs.h>

static const struct op_case *const groups[] = {
	ops_names, ops_links, ops_rename, ops_dir,  ops_attr,  ops_perm, ops_data,   ops_direct,
	ops_mmap,  ops_space, ops_copy,	  ops_xattr, ops_acl,  ops_lock, ops_handle, ops_idmap, ops_matrix,
};

/*
 * Where two correct filesystems differ. A line of the log that contains TEXT is left out on both sides when one of the
 * two is of type FS (0: always). TEXT NULL skips the whole case.
 */
struct difference {
	long fs;
	const char *name;
	const char *text;
	const char *reason;
};

static const struct difference differences[] = {
#include "ops_differences.h"
};

/* On which filesystem a case cannot hold although that filesystem is right, for the run without --compare. */
struct limit {
	long fs;
	const char *name;
	const char *reason;
};

static const struct limit limits[] = {
#include "ops_limits.h"
};

struct options {
	const char *dir;
	const char *reference;
	bool compare;
	bool list;
	bool verbose;
	uid_t uid;
	gid_t gid;
	const char *only[64], *skip[64];
	unsigned only_count, skip_count;
};

struct counts {
	unsigned passed, failed, skipped;
};

static bool wanted(const struct options *o, const struct op_case *oc)
{
	/* A run by root has them all: for a user they don't count as skipped. */
	if ((oc->flags & OPS_ROOT) && o->uid != 0 && !o->list)
		return false;
	if ((oc->flags & OPS_COMPARE) && !o->compare && !o->list)
		return false;
	for (unsigned i = 0; i < o->skip_count; i++)
		if (!fnmatch(o->skip[i], oc->name, 0))
			return false;
	for (unsigned i = 0; i < o->only_count; i++)
		if (!fnmatch(o->only[i], oc->name, 0))
			return true;
	return o->only_count == 0;
}

static void report(struct counts *c, const struct op_case *oc, enum ops_status status, const char *reason)
{
	static const char *const words[] = {[OPS_PASSED] = "ok", [OPS_FAILED] = "not ok", [OPS_SKIPPED] = "skip"};

	printf("%s %s%s%s\n", words[status], oc->name, status == OPS_PASSED ? "" : " ",
	       status == OPS_PASSED ? "" : reason);
	fflush(stdout);
	if (status == OPS_PASSED)
		c->passed++;
	else if (status == OPS_FAILED)
		c->failed++;
	else
		c->skipped++;
}

static long type_of(const char *dir)
{
	struct statfs s;

	return statfs(dir, &s) ? 0 : (long)s.f_type;
}

static void run_assert(const struct options *o, const struct op_case *oc, struct ops_result *res, struct counts *c)
{
	long fs = type_of(o->dir);

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		if (limits[i].fs == fs && !strcmp(limits[i].name, oc->name)) {
			report(c, oc, OPS_SKIPPED, limits[i].reason);
			return;
		}
	ops_run_case(oc, o->dir, o->uid, o->gid, res);
	if (o->verbose)
		fputs(res->log, stdout);
	report(c, oc, res->status, res->reason);
}

static bool applies(const struct difference *d, const struct op_case *oc, long a, long b)
{
	return (d->fs == 0 || d->fs == a || d->fs == b) && !fnmatch(d->name, oc->name, 0);
}

static bool left_out(const char *line, const struct op_case *oc, long a, long b)
{
	for (size_t i = 0; i < sizeof(differences) / sizeof(differences[0]); i++) {
		const struct difference *d = &differences[i];

		if (d->text && applies(d, oc, a, b) && strstr(line, d->text))
			return true;
	}
	return false;
}

/* The next line that counts, ended by a null byte, or NULL. */
static char *next_line(char **at, const struct op_case *oc, long a, long b)
{
	char *line;

	while ((line = strsep(at, "\n")) != NULL)
		if (*line && !left_out(line, oc, a, b))
			return line;
	return NULL;
}

static bool same_logs(const struct options *o, const struct op_case *oc, struct ops_result *ra, struct ops_result *rb,
		      char *reason)
{
	long a = type_of(o->dir), b = type_of(o->reference);
	char *pa = ra->log, *pb = rb->log, *la, *lb;

	do {
		la = next_line(&pa, oc, a, b);
		lb = next_line(&pb, oc, a, b);
		if (!la != !lb || (la && strcmp(la, lb))) {
			snprintf(reason, OPS_REASON_BYTES, "here: [%.400s] reference: [%.400s]", la ? la : "nothing",
				 lb ? lb : "nothing");
			return false;
		}
	} while (la);
	return true;
}

static const struct difference *whole_case_differs(const struct op_case *oc, long a, long b)
{
	for (size_t i = 0; i < sizeof(differences) / sizeof(differences[0]); i++)
		if (!differences[i].text && applies(&differences[i], oc, a, b))
			return &differences[i];
	return NULL;
}

static void run_compare(const struct options *o, const struct op_case *oc, struct ops_result *res, struct counts *c)
{
	const struct difference *d = whole_case_differs(oc, type_of(o->dir), type_of(o->reference));
	struct ops_result *a = &res[0], *b = &res[1];
	char reason[OPS_REASON_BYTES];

	if (d) {
		report(c, oc, OPS_SKIPPED, d->reason);
		return;
	}
	ops_run_case(oc, o->reference, o->uid, o->gid, b);
	if (b->status == OPS_SKIPPED) {
		report(c, oc, OPS_SKIPPED, b->reason);
		return;
	}
	ops_run_case(oc, o->dir, o->uid, o->gid, a);
	if (o->verbose)
		fputs(a->log, stdout);
	if (!a->finished || a->status == OPS_SKIPPED)
		report(c, oc, OPS_FAILED, a->reason);
	else
		report(c, oc, same_logs(o, oc, a, b, reason) ? OPS_PASSED : OPS_FAILED, reason);
}

static int usage(void)
{
	fputs("usage: nvfs-ops DIR [--as UID:GID] [--only NAME]... [--skip NAME]... [--mounted-with OPTIONS] [--compressible]\n"
	      "                    [--verbose]\n"
	      "       nvfs-ops --compare DIR REFERENCE [--as UID:GID] [--only NAME]... [--skip NAME]... [--verbose]\n"
	      "       nvfs-ops --list\n",
	      stderr);
	return 2;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"as", required_argument, NULL, 'a'},  {"only", required_argument, NULL, 'o'},
		{"compare", no_argument, NULL, 'c'},   {"list", no_argument, NULL, 'l'},
		{"verbose", no_argument, NULL, 'v'},   {"skip", required_argument, NULL, 's'},
		{"mounted-with", required_argument, NULL, 'm'}, {"compressible", no_argument, NULL, 'z'},
		{NULL, 0, NULL, 0},
	};
	int opt;

	o->uid = geteuid();
	o->gid = getegid();
	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (opt == 'a' && sscanf(optarg, "%u:%u", &o->uid, &o->gid) != 2)
			return usage();
		else if (opt == 'o' && o->only_count < sizeof(o->only) / sizeof(o->only[0]))
			o->only[o->only_count++] = optarg;
		else if (opt == 's' && o->skip_count < sizeof(o->skip) / sizeof(o->skip[0]))
			o->skip[o->skip_count++] = optarg;
		else if (opt == 'm')
			ops_set_options(optarg);
		else if (opt == 'z')
			ops_set_compressible();
		else if (opt == 'c')
			o->compare = true;
		else if (opt == 'l')
			o->list = true;
		else if (opt == 'v')
			o->verbose = true;
		else if (opt == '?')
			return usage();
	}
	if (o->list)
		return 0;
	if (argc - optind != (o->compare ? 2 : 1))
		return usage();
	o->dir = argv[optind];
	o->reference = o->compare ? argv[optind + 1] : NULL;
	return 0;
}

static void run_one(const struct options *o, const struct op_case *oc, struct ops_result *res, struct counts *c)
{
	if (!wanted(o, oc))
		return;
	if (o->list)
		puts(oc->name);
	else if (o->compare)
		run_compare(o, oc, res, c);
	else
		run_assert(o, oc, res, c);
}

int main(int argc, char **argv)
{
	struct options o = {0};
	struct counts c = {0};
	struct ops_result *res;
	int rc = parse(argc, argv, &o);

	if (rc)
		return rc;
	res = mmap(NULL, 2 * sizeof(*res), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (res == MAP_FAILED) {
		perror("nvfs-ops: mmap");
		return 2;
	}
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
		for (const struct op_case *oc = groups[g]; oc->name; oc++)
			run_one(&o, oc, res, &c);
	if (!o.list)
		printf("# %u passed, %u failed, %u skipped\n", c.passed, c.failed, c.skipped);
	return c.failed ? 1 : 0;
}
