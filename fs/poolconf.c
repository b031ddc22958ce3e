/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/poolconf.h"
#include "io/size.h"
#include "io/cleanup.h"

void poolconf_init(struct poolconf *c)
{
	memset(c, 0, sizeof(*c));
}

void poolconf_free(struct poolconf *c)
{
	for (unsigned i = 0; i < c->device_count; i++)
		free(c->devices[i]);
	c->device_count = 0;
}

void poolconf_path(const char *pool, char *path, size_t len)
{
	snprintf(path, len, "%s/%s.conf", NVFS_CONF_DIR, pool);
	if (access(path, F_OK)) {
		snprintf(path, len, "%s/%s.conf", NVFS_RUN_DIR, pool);
		if (access(path, F_OK))
			snprintf(path, len, "%s/%s.conf", NVFS_CONF_DIR, pool);
	}
}

static int __attribute__((format(printf, 3, 4)))
refuse(char *why, size_t len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, len, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

int poolconf_add_device(struct poolconf *c, const char *path)
{
	for (unsigned i = 0; i < c->device_count; i++) {
		if (!strcmp(c->devices[i], path))
			return -EINVAL;
	}
	if (c->device_count == POOLCONF_DEVICES_MAX)
		return -EINVAL;
	c->devices[c->device_count] = strdup(path);
	if (!c->devices[c->device_count])
		return -ENOMEM;
	c->device_count++;
	return 0;
}

static int set_number(const char *key, const char *value, uint64_t min, uint64_t max,
		      uint64_t *out, char *why, size_t len)
{
	uint64_t n;

	if (size_parse(value, &n) || n < min || n > max)
		return refuse(why, len, "%s=%s: a number from %llu to %llu is needed", key, value,
			      (unsigned long long)min, (unsigned long long)max);
	*out = n;
	return 0;
}

static int set_u32(const char *key, const char *value, uint32_t min, uint32_t max, uint32_t *out,
		   char *why, size_t len)
{
	uint64_t n = 0;
	int err = set_number(key, value, min, max, &n, why, len);

	if (!err)
		*out = (uint32_t)n;
	return err;
}

static int set_group(struct poolconf *c, const char *value, char *why, size_t len)
{
	char room[4096];
	struct group group, *found = NULL;
	uint64_t number;

	if (!number_parse(value, &number) && number < UINT32_MAX) {
		c->control_group = (gid_t)number;
		return 0;
	}
	if (getgrnam_r(value, &group, room, sizeof(room), &found) || !found)
		return refuse(why, len, "control_group=%s: there is no such group", value);
	c->control_group = group.gr_gid;
	return 0;
}

#define MIB (UINT64_C(1) << 20)
#define TIB (UINT64_C(1) << 40)

static int set_option(struct poolconf *c, const char *key, const char *value, char *why, size_t len)
{
	if (!strcmp(key, "dirty"))
		return set_number(key, value, 8 * MIB, TIB, &c->dirty_bytes, why, len);
	if (!strcmp(key, "cache"))
		return set_number(key, value, MIB, TIB, &c->cache_bytes, why, len);
	if (!strcmp(key, "map_cache"))
		return set_number(key, value, MIB, TIB, &c->map_cache_bytes, why, len);
	if (!strcmp(key, "inodes"))
		return set_u32(key, value, 1024, 1u << 28, &c->inode_cache, why, len);
	if (!strcmp(key, "reactors"))
		return set_u32(key, value, 1, 64, &c->reactors, why, len);
	if (!strcmp(key, "commit_ms"))
		return set_u32(key, value, 100, 4000, &c->commit_ms, why, len);
	if (!strcmp(key, "control_group"))
		return set_group(c, value, why, len);
	return refuse(why, len,
		      "unknown option %s: there are dirty, cache, map_cache, inodes, reactors, "
		      "commit_ms and control_group",
		      key);
}

static char *trim(char *s)
{
	size_t len;

	while (isspace((unsigned char)*s))
		s++;
	len = strlen(s);
	while (len > 0 && isspace((unsigned char)s[len - 1]))
		s[--len] = '\0';
	return s;
}

int poolconf_options(struct poolconf *c, const char *options, char *why, size_t len)
{
	cleanup_free char *copy = strdup(options);
	char *save = NULL;

	if (!copy)
		return -ENOMEM;
	for (char *part = strtok_r(copy, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
		char *key = trim(part);
		char *value = strchr(key, '=');
		int err;

		if (!*key)
			continue;
		if (!value)
			return refuse(why, len, "option %s needs a value: %s=...", key, key);
		*value = '\0';
		err = set_option(c, trim(key), trim(value + 1), why, len);
		if (err)
			return err;
	}
	return 0;
}

void poolconf_format_options(const struct poolconf *c, char *buf, size_t len)
{
	const struct {
		const char *key;
		uint64_t value;
	} set[] = {
		{ "dirty", c->dirty_bytes },
		{ "cache", c->cache_bytes },
		{ "map_cache", c->map_cache_bytes },
		{ "inodes", c->inode_cache },
		{ "reactors", c->reactors },
		{ "commit_ms", c->commit_ms },
		{ "control_group", c->control_group },
	};
	size_t at = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < sizeof(set) / sizeof(set[0]); i++) {
		if (set[i].value && at < len)
			at += (size_t)snprintf(buf + at, len - at, "%s%s=%llu", at ? "," : "",
					       set[i].key, (unsigned long long)set[i].value);
	}
}

static int set_devices(struct poolconf *c, char *value, char *why, size_t len)
{
	char *save = NULL;

	for (char *path = strtok_r(value, " \t", &save); path;
	     path = strtok_r(NULL, " \t", &save)) {
		int err;

		if (path[0] != '/')
			return refuse(why, len, "device %s: a path from the root is needed", path);
		err = poolconf_add_device(c, path);
		if (err == -EINVAL)
			return refuse(why, len, "device %s is named twice, or there are more than %d",
				      path, POOLCONF_DEVICES_MAX);
		if (err)
			return err;
	}
	return 0;
}

static int read_line(struct poolconf *c, char *line, char *why, size_t len)
{
	char *key = trim(line);
	char *value;

	if (!*key || *key == '#')
		return 0;
	value = strchr(key, '=');
	if (!value)
		return refuse(why, len, "\"key = value\" is needed");
	*value = '\0';
	key = trim(key);
	value = trim(value + 1);
	if (!strcmp(key, "devices"))
		return set_devices(c, value, why, len);
	if (!strcmp(key, "options"))
		return poolconf_options(c, value, why, len);
	return refuse(why, len, "unknown key %s: there are devices and options", key);
}

int poolconf_read(struct poolconf *c, const char *path, char *why, size_t len)
{
	cleanup_file FILE *f = fopen(path, "re");
	cleanup_free char *line = NULL;
	unsigned number = 0;
	size_t room = 0;

	if (!f) {
		int err = -errno;

		snprintf(why, len, "%s: %s", path, strerror(-err));
		return err;
	}
	while (getline(&line, &room, f) >= 0) {
		char reason[512] = "no memory";
		int err = read_line(c, line, reason, sizeof(reason));

		number++;
		if (err) {
			snprintf(why, len, "%s:%u: %s", path, number, reason);
			return err;
		}
	}
	if (ferror(f)) {
		snprintf(why, len, "%s: cannot be read", path);
		return -EIO;
	}
	return 0;
}
