/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/poolconf.h"
#include "tests/unit/unit.h"

static char why[512];

static int read_text(struct poolconf *c, const char *text)
{
	char path[] = "/tmp/nvfs-config-XXXXXX";
	int fd = mkstemp(path), err;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	poolconf_init(c);
	why[0] = '\0';
	err = poolconf_read(c, path, why, sizeof(why));
	unlink(path);
	return err;
}

START_TEST(options_are_read_back)
{
	struct poolconf c, d;
	char text[POOLCONF_OPTIONS_MAX];

	poolconf_init(&c);
	poolconf_init(&d);
	ck_assert_int_eq(poolconf_options(&c, "dirty=64M,reactors=2,control_group=7,inodes=5000,"
					      "cache=9M,map_cache=2M,commit_ms=1000",
					  why, sizeof(why)),
			 0);
	poolconf_format_options(&c, text, sizeof(text));
	ck_assert_int_eq(poolconf_options(&d, text, why, sizeof(why)), 0);
	ck_assert_int_eq(memcmp(&c, &d, sizeof(c)), 0);
}
END_TEST

START_TEST(reads_a_file)
{
	struct poolconf c;

	ck_assert_int_eq(read_text(&c, "# pool\n\ndevices = /dev/a  /dev/b\n"
				       " options=dirty=512M, reactors=3 ,\n"),
			 0);
	ck_assert_uint_eq(c.device_count, 2);
	ck_assert_str_eq(c.devices[1], "/dev/b");
	ck_assert_uint_eq(c.dirty_bytes, 512u << 20);
	ck_assert_uint_eq(c.reactors, 3);
	poolconf_free(&c);
}
END_TEST

START_TEST(names_the_line_of_a_mistake)
{
	static const char *const wrong[] = {
		"devices = /dev/a\nspeed = 11\n", "\ndevices = disk\n",
		"\ndevices = /dev/a /dev/a\n",    "\noptions = dirty\n",
		"\noptions = dirty=much\n",       "\noptions = dirty=1\n",
		"\noptions = reactors=0\n",       "\noptions = colour=red\n",
		"\nnothing\n",                    "\noptions = control_group=no.such.group\n",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct poolconf c;

		ck_assert_int_eq(read_text(&c, wrong[i]), -EINVAL);
		ck_assert_msg(strstr(why, ":2: "), "%s", why);
		poolconf_free(&c);
	}
}
END_TEST

START_TEST(says_what_is_missing)
{
	struct poolconf c;

	poolconf_init(&c);
	ck_assert_int_eq(poolconf_read(&c, "/nonexistent/x.conf", why, sizeof(why)), -ENOENT);
	ck_assert_ptr_nonnull(strstr(why, "/nonexistent/x.conf"));
}
END_TEST

int main(void)
{
	return unit_run("poolconf", options_are_read_back, reads_a_file, names_the_line_of_a_mistake, says_what_is_missing, NULL);
}
