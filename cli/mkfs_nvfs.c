/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mkfs.nvfs: make a pool on devices or files. Every refusal comes before the first byte is written. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/in_use.h"
#include "cli/report.h"
#include "io/cleanup.h"
#include "io/device.h"
#include "io/log.h"
#include "io/size.h"
#include "meta/label.h"
#include "meta/mkfs.h"

struct mkfs_args {
	const char *name;
	uint64_t size_bytes, inodes, dirty_bytes;
	bool force, quiet;
	char **paths;
	unsigned count;
	bool made[LABEL_DEVICES_MAX]; /* files that we created and remove when it fails */
	struct device *devices[LABEL_DEVICES_MAX];
};

static const char usage_text[] =
	"usage: mkfs.nvfs [--name POOL] [--size SIZE] [--inodes N] [--force] [--quiet] DEVICE|FILE...\n"
	"\n"
	"Makes a pool on all of the given devices and files.\n"
	"  --name POOL    its name; otherwise that of the first device or file\n"
	"  --size SIZE    make each FILE first, this large (10G, 512Mi)\n"
	"  --inodes N     the most files and directories in the pool; otherwise one for each 16 KiB\n"
	"  --dirty SIZE   the most unwritten data that the pool will ever hold (nvfs.conf(5)); otherwise 256M, less on a small pool\n"
	"  --force        overwrite what is on the devices\n"
	"  --quiet        print nothing when all is well\n";

static const struct option long_options[] = {
	{"name", required_argument, NULL, 'L'},  {"label", required_argument, NULL, 'L'},
	{"size", required_argument, NULL, 's'},  {"inodes", required_argument, NULL, 'N'},
	{"force", no_argument, NULL, 'f'},       {"quiet", no_argument, NULL, 'q'},
	{"dirty", required_argument, NULL, 'D'}, {"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},     {NULL, 0, NULL, 0},
};

static uint64_t size_arg(const char *option, const char *text)
{
	uint64_t bytes;

	if (size_parse(text, &bytes) || !bytes)
		die(1, "--%s %s is no size; write one like 10G or 512Mi", option, text);
	return bytes;
}

static void parse_args(int argc, char **argv, struct mkfs_args *a)
{
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":L:s:N:D:fqhV", long_options, NULL)) != -1) {
		switch (c) {
		case 'L':
			a->name = optarg;
			break;
		case 's':
			a->size_bytes = size_arg("size", optarg);
			break;
		case 'D':
			a->dirty_bytes = size_arg("dirty", optarg);
			break;
		case 'N':
			if (number_parse(optarg, &a->inodes) || !a->inodes)
				die(1, "--inodes %s is no whole number above 0", optarg);
			break;
		case 'f':
			a->force = true;
			break;
		case 'q':
			a->quiet = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			exit(0);
		case 'V':
			puts("mkfs.nvfs " PACKAGE_VERSION);
			exit(0);
		default:
			die_of_option(1, c, argv, long_options, "mkfs.nvfs --help");
		}
	}
	a->paths = argv + optind;
	a->count = (unsigned)(argc - optind);
	if (!a->count)
		die(1, "name a device or a file; \"mkfs.nvfs --size 10G pool.img\" makes a file");
	if (a->count > LABEL_DEVICES_MAX)
		die(1, "%u devices; a pool has at most %u", a->count, LABEL_DEVICES_MAX);
}

/* ---- The name ---- */

/* "/var/lib/nvfs/tank.img" -> "tank"; what a name cannot have becomes '-'. */
static const char *default_name(const char *path)
{
	static char name[LABEL_NAME_MAX + 1];
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	size_t n = 0;

	for (; *base && n < LABEL_NAME_MAX; base++)
		name[n++] = isalnum((unsigned char)*base) || strchr("._-", *base) ? *base : '-';
	name[n] = '\0';
	char *dot = strrchr(name, '.');
	if (dot && dot != name)
		*dot = '\0';
	return label_name_valid(name) ? name : "pool";
}

static void check_name(struct mkfs_args *a)
{
	if (!a->name)
		a->name = default_name(a->paths[0]);
	if (!label_name_valid(a->name))
		die(1, "\"%s\" cannot be a pool's name: 1 to %d of A-Z a-z 0-9 . _ -, not starting with . or -", a->name,
		    LABEL_NAME_MAX);
}

/* ---- The devices ---- */

static void remove_made(struct mkfs_args *a)
{
	for (unsigned i = 0; i < a->count; i++)
		if (a->made[i])
			unlink(a->paths[i]);
}

__attribute__((noreturn, format(printf, 2, 3))) static void fail(struct mkfs_args *a, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	remove_made(a);
	die(1, "%s; nothing was changed", text);
}

static void make_file(struct mkfs_args *a, unsigned i)
{
	const char *path = a->paths[i];
	int rc = device_create_file(path, a->size_bytes);
	char size[SIZE_TEXT_MAX];

	if (rc == -EEXIST)
		fail(a, "%s exists already; leave out --size to use it as it is, or remove it", path);
	if (rc == -ENOSPC || rc == -EFBIG)
		fail(a, "there is no room for %s of %s; a smaller --size may fit (df shows what is free)", path,
		     size_text(a->size_bytes, size, sizeof(size)));
	if (rc == -ENOENT)
		fail(a, "%s: its directory is not there; make it first, with mkdir -p", path);
	if (rc)
		fail(a, "%s: %s", path, strerror(-rc));
	a->made[i] = true;
}

static void check_device(struct mkfs_args *a, unsigned i)
{
	const char *path = a->paths[i];
	struct stat st, other;
	char why[512] = "";
	int rc;

	if (stat(path, &st))
		fail(a, "%s: %s%s", path, strerror(errno),
		     errno == ENOENT ? "; --size SIZE would make it as a file" : "");
	for (unsigned j = 0; j < i; j++)
		if (!stat(a->paths[j], &other) && st.st_dev == other.st_dev && st.st_ino == other.st_ino)
			fail(a, "%s and %s are the same", a->paths[j], path);
	rc = in_use_check(path, why, sizeof(why));
	if (rc)
		fail(a, "%s: %s%s", path, why,
		     rc == -ENXIO ? "; a pool needs at least 64M (remove it, and --size makes the file)" : "");
	rc = signature_check(path, why, sizeof(why));
	if (rc == -EEXIST && !a->force)
		fail(a, "%s: %s; --force overwrites it", path, why);
	if (rc && rc != -EEXIST)
		fail(a, "%s: cannot read it: %s", path, strerror(-rc));
}

static void check_size(struct mkfs_args *a, unsigned i)
{
	const uint64_t bytes = device_geometry(a->devices[i])->size_bytes;
	char has[SIZE_TEXT_MAX], least[SIZE_TEXT_MAX];

	if (bytes < LABEL_DEVICE_MIN_BYTES)
		fail(a, "%s has %s; each device or file of a pool needs at least %s", a->paths[i],
		     size_text(bytes, has, sizeof(has)), size_text(LABEL_DEVICE_MIN_BYTES, least, sizeof(least)));
}

static void open_devices(struct mkfs_args *a)
{
	for (unsigned i = 0; i < a->count; i++) {
		int rc = device_open(a->paths[i], DEVICE_EXCLUSIVE, &a->devices[i]);

		if (rc)
			fail(a, "%s: %s", a->paths[i], device_problem(rc));
		check_size(a, i);
	}
}

static void wipe_signatures(struct mkfs_args *a)
{
	for (unsigned i = 0; i < a->count; i++) {
		int rc = a->made[i] ? 0 : signature_wipe(a->paths[i]);

		if (rc)
			die(1, "%s: cannot remove the old signature: %s; the devices hold nothing whole now", a->paths[i],
			    strerror(-rc));
	}
}

/* ---- What is told at the end ---- */

static void print_summary(const struct mkfs_args *a)
{
	struct label label;
	char data[SIZE_TEXT_MAX];
	uint64_t bytes = 0;

	if (label_read(a->devices[0], &label, NULL))
		die(1, "%s: the label that was written cannot be read back; the device is not to be trusted", a->paths[0]);
	for (unsigned i = 0; i < label.device_count; i++)
		bytes += label.devices[i].size_bytes;
	if (a->quiet)
		return;
	printf("pool %s: %s on %u %s, up to %llu files\n", label.name, size_text(bytes, data, sizeof(data)),
	       label.device_count, label.device_count == 1 ? "device" : "devices",
	       (unsigned long long)label.inodes_max);
	printf("next: nvfs pool start");
	for (unsigned i = 0; i < a->count; i++)
		printf(" %s%s", strchr(a->paths[i], '/') ? "" : "./", a->paths[i]);
	putchar('\n');
	printf("      nvfs subvolume create %s:NAME --size SIZE\n", label.name);
	printf("      mount -t nvfs %s:NAME DIRECTORY\n", label.name);
}

int main(int argc, char **argv)
{
	static struct mkfs_args a;
	struct pool_create_options opts = {0};
	char why[512] = "";
	int rc;

	log_set_ident("mkfs.nvfs");
	log_set_level(LOG_LEVEL_WARN);
	parse_args(argc, argv, &a);
	check_name(&a);
	for (unsigned i = 0; i < a.count; i++) {
		if (a.size_bytes)
			make_file(&a, i);
		check_device(&a, i);
	}
	open_devices(&a);
	opts.name = a.name;
	opts.inodes_max = a.inodes;
	opts.dirty_bytes = a.dirty_bytes;
	rc = pool_create_check(a.devices, a.count, &opts, why, sizeof(why));
	if (rc)
		fail(&a, "%s", *why ? why : strerror(-rc));
	wipe_signatures(&a);
	rc = pool_create(a.devices, a.count, &opts, why, sizeof(why));
	if (rc) {
		remove_made(&a);
		die(1, "%s; there is no pool, and what was on the devices is gone", *why ? why : strerror(-rc));
	}
	print_summary(&a);
	for (unsigned i = 0; i < a.count; i++)
		device_close(a.devices[i]);
	return 0;
}
