/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fsck.nvfs: check a pool that nobody serves, and repair what can be computed. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/in_use.h"
#include "cli/report.h"
#include "cli/terminal.h"
#include "io/device.h"
#include "io/log.h"
#include "meta/check.h"
#include "meta/label.h"

/* fsck(8) */
enum {
	EXIT_CLEAN = 0,
	EXIT_REPAIRED = 1,
	EXIT_LEFT = 4,
	EXIT_FAILED = 8,
	EXIT_USAGE = 16,
};

static const char usage_text[] =
	"usage: fsck.nvfs [-n|-y] [--data] DEVICE|FILE...\n"
	"\n"
	"Checks a pool that is not served. All of its devices must be given.\n"
	"  -n       change nothing (what it does without -y)\n"
	"  -y       repair what can be repaired without guessing\n"
	"  --data   read all data too and compare it with its checksums\n";

struct fsck_args {
	bool repair, data, preen;
	char **paths;
	unsigned count;
};

static const struct option long_options[] = {
	{ "data", no_argument, NULL, 'D' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static void bad_usage(const char *text)
{
	die(EXIT_USAGE, "%s; fsck.nvfs --help shows how it is used", text);
}

/* -a, -p, -f, -C, -r, -l, -t are what fsck(8) passes on. */
static void parse_args(int argc, char **argv, struct fsck_args *a)
{
	bool no = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":nyapfrlC::t:hV", long_options, NULL)) != -1) {
		switch (c) {
		case 'n':
			no = true;
			break;
		case 'y':
			a->repair = true;
			break;
		case 'D':
			a->data = true;
			break;
		case 'a':
		case 'p':
			a->preen = true;
			break;
		case 'f':
		case 'r':
		case 'l':
		case 'C':
		case 't':
			break;
		case 'h':
			fputs(usage_text, stdout);
			exit(EXIT_CLEAN);
		case 'V':
			printf("fsck.nvfs %s\n", PACKAGE_VERSION);
			exit(EXIT_CLEAN);
		default:
			die_of_option(EXIT_USAGE, c, argv, long_options, "fsck.nvfs --help");
		}
	}
	if (no && a->repair)
		bad_usage("-n and -y exclude each other");
	if (optind == argc)
		bad_usage("no device is given");
	a->paths = argv + optind;
	a->count = argc - optind;
	if (a->count > LABEL_DEVICES_MAX)
		bad_usage("more devices than a pool can have");
}

static void show_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	(void)arg;
	bar_draw(what, done, total);
}

/* ---- devices ---- */

static int open_device(const char *path, bool repair, struct device **out)
{
	const unsigned flags = DEVICE_EXCLUSIVE | (repair ? 0 : DEVICE_READONLY);
	char why[PATH_MAX + 128];
	int err = in_use_check(path, why, sizeof(why));

	if (err == -EBUSY) {
		report("%s: %s", path, why);
		return err;
	}
	err = device_open(path, flags, out);
	if (err == -EBUSY)
		report("%s is in use: stop the pool first (nvfs pool stop POOL)", path);
	else if (err)
		report("%s: %s", path, device_problem(err));
	return err;
}

/* Paths of one device or file: it cannot be locked twice, and "in use" would be said of the second. */
static int check_distinct(const struct fsck_args *a)
{
	struct stat one, other;

	for (unsigned i = 1; i < a->count; i++)
		for (unsigned j = 0; j < i; j++)
			if (!stat(a->paths[i], &one) && !stat(a->paths[j], &other) && one.st_dev == other.st_dev &&
			    one.st_ino == other.st_ino) {
				report("%s and %s are the same", a->paths[j], a->paths[i]);
				return -1;
			}
	return 0;
}

static int open_all(const struct fsck_args *a, struct device **devices)
{
	for (unsigned i = 0; i < a->count; i++) {
		if (!open_device(a->paths[i], a->repair, &devices[i]))
			continue;
		while (i > 0)
			device_close(devices[--i]);
		return -1;
	}
	return 0;
}

static int summary(const struct fsck_args *a, const struct check_result *r, int err)
{
	if (err == -ENOMEM)
		report("out of memory: the check needs 3 bits a block of data and 56 bytes an inode");
	if (err && !r->found)
		return EXIT_FAILED;
	if (err) {
		/* Of damage the line before tells more than the errno. */
		printf("%s%sthe check could not go on%s%s\n", r->pool, *r->pool ? ": " : "", err == -EBADMSG ? "" : ": ",
		       err == -EBADMSG ? "" : strerror(-err));
		return EXIT_LEFT;
	}
	printf("%s: %" PRIu64 " inodes, %" PRIu64 " blocks of data%s: ", r->pool, r->inodes, r->data_blocks,
	       a->data ? ", all read" : "");
	if (!r->found) {
		printf("no errors\n");
		return EXIT_CLEAN;
	}
	printf("%" PRIu64 " error%s found, %" PRIu64 " repaired, %" PRIu64 " left\n", r->found,
	       r->found == 1 ? "" : "s", r->repaired, r->left);
	if (!r->left)
		return EXIT_REPAIRED;
	if (!a->repair)
		printf("%s: fsck.nvfs -y repairs what can be computed\n", r->pool);
	else
		printf("%s: what is left cannot be computed: copy what can be read to another pool, or bring the devices back from a "
		       "copy\n", r->pool);
	return EXIT_LEFT;
}

int main(int argc, char **argv)
{
	struct fsck_args a = { 0 };
	struct device *devices[LABEL_DEVICES_MAX];
	struct check_options options = { .out = stdout };
	struct check_result result;
	int err;

	log_set_ident("fsck.nvfs");
	parse_args(argc, argv, &a);
	/* A pool recovers when it is started: nothing to do at boot. */
	if (a.preen)
		return EXIT_CLEAN;
	log_set_level(LOG_LEVEL_WARN);
	if (check_distinct(&a) < 0 || open_all(&a, devices) < 0)
		return EXIT_FAILED;
	options.repair = a.repair;
	options.data = a.data;
	if (bar_wanted())
		options.progress = show_progress;
	setvbuf(stdout, NULL, _IOLBF, 0);
	err = check_pool(devices, a.count, &options, &result);
	bar_clear();
	for (unsigned i = 0; i < a.count; i++)
		device_close(devices[i]);
	return summary(&a, &result, err);
}
