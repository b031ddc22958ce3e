/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/completion.h"
#include "cli/nvfs.h"
#include "cli/top_stats.h"
#include "tests/unit/unit.h"

/* The nvfs command: its tables, and what comes of a command line. */

/* A command line whose words have no spaces; '' is an empty one. It lives until the next one. */
static void parse(struct nvfs_args *a, const char *line)
{
	static char text[1024], program[] = "nvfs", *argv[sizeof(text) / 2];
	char *save = NULL;
	int argc = 0;

	ck_assert_uint_lt(strlen(line), sizeof(text));
	strcpy(text, line);
	memset(argv, 0, sizeof(argv));
	argv[argc++] = program;
	for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = strcmp(word, "''") ? word : word + 2;
	nvfs_parse(argc, argv, a);
}

START_TEST(words_and_options_in_any_order)
{
	struct nvfs_args a;

	parse(&a, "--size 2G subvolume --json create tank:web --thin");
	ck_assert_str_eq(a.command->verb, "create");
	ck_assert_uint_eq(a.count, 1);
	ck_assert_str_eq(a.words[0], "tank:web");
	ck_assert(a.json);
	ck_assert_uint_eq(arg_number(&a, "size"), 2ull << 30);
	ck_assert(arg_given(&a, "thin"));
	ck_assert(!arg_given(&a, "inodes"));
	ck_assert_ptr_null(arg_text(&a, "compression"));
	parse(&a, "subvolume resize --inodes=7 -- --size");
	ck_assert_str_eq(a.words[0], "--size");
	ck_assert_uint_eq(arg_number(&a, "inodes"), 7);
	ck_assert(!arg_given(&a, "size"));
}
END_TEST

START_TEST(a_word_can_be_a_command)
{
	struct nvfs_args a;

	parse(&a, "sync tank");
	ck_assert_str_eq(a.command->group, "sync");
	ck_assert_uint_eq(a.count, 1);
	ck_assert_str_eq(a.words[0], "tank");
}
END_TEST

/* Each exits with a line. */
static const char *const wrong[] = {
	"nosuch",
	"subvolume",
	"subvolume nosuch",
	"subvolume create",
	"subvolume create a:b c:d",
	"subvolume create a:b --size",
	"subvolume create a:b --size 0",
	"subvolume create a:b --size much",
	"subvolume create a:b --inodes -1",
	"subvolume create a:b --compression lz",
	"subvolume create a:b --compression ''",
	"subvolume create a:b --compression off|lz4",
	"subvolume list --size 1G",
	"subvolume create a:b --thin=yes",
	"pool list --nosuch",
	"pool list -Z",
	"debug dump x --json",
};

START_TEST(wrong_usage_is_2)
{
	struct nvfs_args a;

	parse(&a, wrong[_i]);
}
END_TEST

START_TEST(help_is_no_error)
{
	static const char *const asked[] = {
		"--help", "help", "pool --help", "help pool show", "--version",
		"sync --help", "nosuch --help",
	};
	struct nvfs_args a;

	parse(&a, asked[_i]);
}
END_TEST

/* ---- Completion ---- */

static const struct {
	const char *line, *words; /* joined by blanks; a blank at the end: more may follow */
} completions[] = {
	{"nvfs po", "pool"},
	{"/usr/bin/nvfs subv", "subvolume"},
	{"nvfs subvolume cr", "create"},
	{"nvfs subvolume create --inod", "--inodes"},
	{"nvfs subvolume create --comp", "--compression="},
	{"nvfs subvolume create a:b --compression ", "off lz4"},
	{"nvfs subvolume create a:b --compression=l", "--compression=lz4"},
	{"nvfs --color n", "never"},
	{"nvfs --color=a", "--color=auto --color=always"},
	{"nvfs --size 2G subvolume res", "resize"},
	{"nvfs subvolume delete --dry", "--dry-run"},
	{"nvfs pool list --dry", ""},
	{"nvfs debug dump --js", ""},
	{"nvfs debug dump ", "?files"},
	{"nvfs pool stop a b", ""},
	{"nvfs nosuch ", ""},
	{"nvfs subvolume nosuch ", ""},
	{"nvfs completion w", ""}, /* for the script alone */
	{"nvfs subvolume create --size ", ""},
	{"nvfs events tank-that-is-not-there", ""},
	{"nvfs subvolume show tank-that-is-not-there:", ""},
	{"nvfs --nosuch po", "pool"},
	{"nvfs help subv", "subvolume"},
	{"nvfs help pool sh", "show"},
	{"nvfs pool help", ""},
	{"nvfs subvolume create tank-that-is-not-there:a --tenant ", ""},
};

START_TEST(what_fits_is_offered)
{
	json_t *words = completion_words(completions[_i].line);
	const json_t *w;
	char text[1024] = "";
	size_t i;

	json_array_foreach(words, i, w)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "", json_string_value(w));
	ck_assert_str_eq(text, completions[_i].words);
	json_decref(words);
}
END_TEST

/* Whatever somebody has typed. */
START_TEST(odd_lines_are_no_harm)
{
	static const char *const odd[] = {"", " ", "nvfs", "nvfs -", "nvfs --", "nvfs --=", "nvfs --color", "nvfs \t pool\t", "nvfs : @ /",
					  "nvfs subvolume show :", "nvfs subvolume show /:@", "nvfs pool start ../"};
	char *many = malloc(4096);

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		json_decref(completion_words(odd[i]));
	for (size_t i = 0; i < 4095; i++)
		many[i] = i % 2 ? 'a' : ' ';
	many[4095] = '\0';
	json_decref(completion_words(many));
	free(many);
}
END_TEST

/* ---- top ---- */

static json_t *latency_of(unsigned bucket, int count, int total_ns)
{
	json_t *buckets = json_array();

	for (unsigned i = 0; i < TOP_BUCKETS; i++)
		json_array_append_new(buckets, json_integer(i == bucket ? count : 0));
	return json_pack("{s:i,s:o}", "total_ns", total_ns, "buckets", buckets);
}

/* An answer with one subvolume, of a mount `session`, that did `n` reads of 4 KiB in 100 us each. */
static json_t *answer(int64_t time_ns, int session, const char *name, int n)
{
	return json_pack("{s:s,s:I,s:[{s:s,s:s,s:i,s:I,s:I,s:i,s:o,s:o}]}", "pool", "tank", "time_ns", (json_int_t)time_ns, "subvolumes",
			 "name", name, "tenant", "team", "session", session, "read_bytes", (json_int_t)n * 4096, "dirty_bytes",
			 (json_int_t)8192, "cached_inodes", 3, "read", latency_of(7, n, n * 100000), "write", latency_of(0, 0, 0));
}

START_TEST(top_shows_differences)
{
	json_t *before = answer(1000000000, 1, "web", 100), *after = answer(3000000000, 1, "web", 300), *j;
	struct top t = {0};

	ck_assert_int_eq(top_add(&t, before, after), 0);
	ck_assert_uint_eq(t.count, 1);
	ck_assert_str_eq(t.rows[0].name, "tank:web");
	ck_assert_uint_eq(t.rows[0].counts[TOP_READ], 200);
	ck_assert_double_eq_tol(top_rate(&t.rows[0], t.rows[0].counts[TOP_READ]), 100, 1e-9);
	ck_assert_double_eq_tol(top_rate(&t.rows[0], t.rows[0].read_bytes), 100 * 4096, 1e-9);
	ck_assert_double_eq_tol(top_mean_us(&t.rows[0], TOP_READ), 100, 1e-9);
	/* Bucket 7 is from 64 us to 128 us. */
	ck_assert_double_eq_tol(top_p99_us(&t.rows[0], TOP_READ), 64 + 64 * 0.99, 1e-6);
	ck_assert_double_eq_tol(top_p99_us(&t.rows[0], TOP_WRITE), 0, 1e-9);
	ck_assert_uint_eq(t.rows[0].dirty_bytes, 8192);
	j = top_row_json(&t.rows[0], false);
	ck_assert_str_eq(json_string_value(json_object_get(j, "pool")), "tank");
	ck_assert_str_eq(json_string_value(json_object_get(j, "subvolume")), "web");
	ck_assert_str_eq(json_string_value(json_object_get(j, "tenant")), "team");
	json_decref(j);
	top_free(&t);
	/* Another mount of it began at 0; without an answer before there are no rates. */
	json_decref(before);
	before = answer(1000000000, 2, "web", 1000);
	ck_assert_int_eq(top_add(&t, before, after), 0);
	ck_assert_uint_eq(t.rows[0].counts[TOP_READ], 300);
	ck_assert_int_eq(top_add(&t, NULL, after), 0);
	ck_assert_double_eq_tol(top_rate(&t.rows[1], 300), 0, 1e-9);
	top_free(&t);
	json_decref(before);
	json_decref(after);
}
END_TEST

static json_t *held_answer(json_int_t own_ns, json_int_t tenant_ns)
{
	return json_pack("{s:s,s:I,s:[{s:s,s:s,s:i,s:{s:{s:{s:i,s:I}},s:{s:{s:i,s:I}}}}]}", "pool", "tank", "time_ns", (json_int_t)1, "subvolumes",
			 "name", "web", "tenant", "team", "session", 1, "throttled_by", "subvolume", "read_bps", "ops", 9, "ns", own_ns, "tenant",
			 "write_iops", "ops", 1, "ns", tenant_ns);
}

/* By what there was in the interval. */
START_TEST(top_says_who_was_held_by_what)
{
	json_t *answers[] = { held_answer(1000, 10), held_answer(1100, 500), held_answer(1500, 500) }, *j;
	struct top t = {0};

	ck_assert_int_eq(top_add(&t, NULL, answers[0]) | top_add(&t, answers[0], answers[1]) | top_add(&t, answers[1], answers[2]), 0);
	ck_assert_int_eq(top_add(&t, answers[2], answers[2]), 0);
	ck_assert_str_eq(top_held_by(&t.rows[0]), "read_bps");
	ck_assert_str_eq(top_held_by(&t.rows[1]), "tenant write_iops");
	ck_assert_str_eq(top_held_by(&t.rows[2]), "read_bps");
	ck_assert_ptr_null(top_held_by(&t.rows[3]));
	j = top_row_json(&t.rows[1], false);
	ck_assert_str_eq(json_string_value(json_object_get(j, "held_by")), "tenant write_iops");
	json_decref(j);
	top_by_tenant(&t);
	ck_assert_uint_eq(t.count, 1);
	ck_assert_str_eq(top_held_by(&t.rows[0]), "read_bps");
	top_free(&t);
	for (unsigned i = 0; i < 3; i++)
		json_decref(answers[i]);
}
END_TEST

START_TEST(top_adds_up_tenants_and_sorts)
{
	json_t *a = answer(1000000000, 1, "a", 10), *b = answer(1000000000, 2, "b", 30), *c = answer(1000000000, 3, "c", 20);
	struct top t = {0};

	ck_assert_int_eq(top_add(&t, NULL, a) | top_add(&t, NULL, b) | top_add(&t, NULL, c), 0);
	ck_assert(top_sort(&t, 'r'));
	ck_assert_str_eq(t.rows[0].name, "tank:b");
	ck_assert_str_eq(t.rows[2].name, "tank:a");
	ck_assert(top_sort(&t, 'n'));
	ck_assert_str_eq(t.rows[0].name, "tank:a");
	ck_assert(!top_sort(&t, 'x'));
	top_by_tenant(&t);
	ck_assert_uint_eq(t.count, 1);
	ck_assert_str_eq(t.rows[0].name, "tank/team");
	ck_assert_uint_eq(t.rows[0].counts[TOP_READ], 60);
	ck_assert_uint_eq(t.rows[0].buckets[TOP_READ][7], 60);
	ck_assert_uint_eq(t.rows[0].subvolumes, 3);
	ck_assert_uint_eq(t.rows[0].dirty_bytes, 3 * 8192);
	top_free(&t);
	json_decref(a);
	json_decref(b);
	json_decref(c);
}
END_TEST

/* ---- Waiting ---- */

#define ROUNDS 3

/* A daemon that has something to sweep for some rounds; ends well when it was asked once more. */
static void sweep_for_a_while(int listening)
{
	char line[256];
	int fd = accept(listening, NULL, NULL), asked = 0;
	FILE *in = fdopen(fd, "r");

	for (; in && fgets(line, sizeof(line), in); asked++) {
		if (!strstr(line, "\"sweeps\""))
			_exit(2);
		dprintf(fd, "{\"ok\":true,\"version\":1,\"sweeps\":%d,\"sweeping_bytes\":%d}\n", ROUNDS - asked, (ROUNDS - asked) * 4096);
	}
	_exit(asked == ROUNDS + 1 ? 0 : 3);
}

START_TEST(waits_until_nothing_is_swept)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), status;
	char pool[32];
	pid_t pid;

	snprintf(pool, sizeof(pool), "test-wait-%d", (int)getpid());
	ck_assert_int_eq(client_socket_path(pool, addr.sun_path), 0);
	mkdir(NVFS_RUN_DIR, 0755);
	/* Who may not make a socket there cannot be a daemon. */
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) && (errno == EACCES || errno == ENOENT || errno == EROFS))
		return;
	ck_assert_int_eq(listen(fd, 1), 0);
	pid = fork();
	if (!pid)
		sweep_for_a_while(fd);
	close(fd);
	nvfs_wait_for_sweeps(pool);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	unlink(addr.sun_path);
	ck_assert_int_eq(status, 0);
}
END_TEST

/* Somebody waits for a daemon that says this of its pool, again and again: the exit code, and what was said. -1: no daemon can be here. */
static int wait_for(const char *fields, char *said, size_t len)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), out[2], status;
	char pool[32], line[256];
	pid_t server, waiter;
	size_t at;
	ssize_t n;

	snprintf(pool, sizeof(pool), "test-stuck-%d", (int)getpid());
	ck_assert_int_eq(client_socket_path(pool, addr.sun_path), 0);
	mkdir(NVFS_RUN_DIR, 0755);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) && (errno == EACCES || errno == ENOENT || errno == EROFS))
		return -1;
	ck_assert_int_eq(listen(fd, 1), 0);
	server = fork();
	if (!server) {
		int conn = accept(fd, NULL, NULL);

		while (read(conn, line, sizeof(line)) > 0)
			dprintf(conn, "{\"ok\":true,\"version\":1,\"sweeps\":1,\"sweeping_bytes\":4096,%s}\n", fields);
		_exit(0);
	}
	close(fd);
	ck_assert_int_eq(pipe(out), 0);
	waiter = fork();
	if (!waiter) {
		dup2(out[1], STDERR_FILENO);
		alarm(60);
		nvfs_wait_for_sweeps(pool);
		_exit(EXIT_OK);
	}
	close(out[1]);
	for (at = 0; (n = read(out[0], said + at, len - 1 - at)) > 0; at += (size_t)n)
		;
	said[at] = '\0';
	close(out[0]);
	ck_assert_int_eq(waitpid(waiter, &status, 0), waiter);
	ck_assert_int_eq(waitpid(server, NULL, 0), server);
	unlink(addr.sun_path);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Who waits for a pool that failed, or for a sweep that does not get on, is told what to do. */
START_TEST(waits_for_nothing_that_does_not_come)
{
	char said[1024];
	int code = wait_for("\"failed\":5,\"sweep_error\":5", said, sizeof(said));

	if (code < 0)
		return;
	ck_assert_int_eq(code, EXIT_REFUSED);
	ck_assert_ptr_nonnull(strstr(said, "the pool failed (Input/output error)"));
	ck_assert_ptr_nonnull(strstr(said, "nvfs pool stop"));
	ck_assert_int_eq(wait_for("\"sweep_error\":28", said, sizeof(said)), EXIT_NO_SPACE);
	ck_assert_ptr_nonnull(strstr(said, "no room for metadata"));
	ck_assert_int_eq(wait_for("\"sweep_error\":5", said, sizeof(said)), EXIT_REFUSED);
	ck_assert_ptr_nonnull(strstr(said, "tries again"));
}
END_TEST

/* ---- Exit codes ---- */

START_TEST(kinds_of_errors_have_codes)
{
	static const struct {
		int err, code;
	} table[] = {
		{-EIO, EXIT_REFUSED}, {-EROFS, EXIT_REFUSED}, {-EINVAL, EXIT_USAGE}, {-ENAMETOOLONG, EXIT_USAGE},
		{-ESRCH, EXIT_NOT_SERVED}, {-ECONNRESET, EXIT_NOT_SERVED}, {-ESHUTDOWN, EXIT_NOT_SERVED},
		{-ENOENT, EXIT_NOT_FOUND}, {-ENOSPC, EXIT_NO_SPACE}, {-EDQUOT, EXIT_NO_SPACE}, {-EBUSY, EXIT_BUSY},
		{-EEXIST, EXIT_EXISTS}, {-EPERM, EXIT_PERMISSION}, {-EACCES, EXIT_PERMISSION},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		ck_assert_msg(nvfs_exit_code(table[i].err) == table[i].code, "%s: %d", strerror(-table[i].err),
			      nvfs_exit_code(table[i].err));
	/* What scripts have compared with since. */
	ck_assert_int_eq(EXIT_NOT_SERVED, 3);
	ck_assert_int_eq(EXIT_NOT_FOUND, 4);
	ck_assert_int_eq(EXIT_NO_SPACE, 5);
	ck_assert_int_eq(EXIT_BUSY, 6);
	ck_assert_int_eq(EXIT_EXISTS, 7);
	ck_assert_int_eq(EXIT_PERMISSION, 8);
}
END_TEST

/* ---- Terminal ---- */

/* What is no terminal gets colours only when told, and NO_COLOR is for what was not told. */
START_TEST(colours_are_for_terminals)
{
	FILE *out = tmpfile();
	char text[64] = "";

	setenv("TERM", "xterm", 1);
	ck_assert(!colour_wanted(out));
	colour_set("always");
	setenv("NO_COLOR", "1", 1);
	ck_assert(colour_wanted(out));
	colour_print(out, COLOUR_RED, "a%d", 1);
	colour_print(out, COLOUR_NONE, "b");
	colour_set("never");
	ck_assert(!colour_wanted(out));
	colour_print(out, COLOUR_RED, "c");
	rewind(out);
	ck_assert_ptr_nonnull(fgets(text, sizeof(text), out));
	ck_assert_str_eq(text, "\033[31ma1\033[0mbc");
	fclose(out);
}
END_TEST

/* ---- Help ---- */

static char *help_text(void (*print)(FILE *out, const void *of), const void *of)
{
	size_t len;
	char *text = NULL;
	FILE *out = open_memstream(&text, &len);

	print(out, of);
	fclose(out);
	return text;
}

static void of_all(FILE *out, const void *of)
{
	(void)of;
	help_all(out);
}

static void of_group(FILE *out, const void *of)
{
	help_group(out, of);
}

static void of_command(FILE *out, const void *of)
{
	help_command(out, of);
}

static void check_screen(char *text, unsigned lines_max)
{
	unsigned lines = 0;
	char *save = NULL;

	ck_assert_msg(lines_max == 0 || text[strlen(text) - 1] == '\n', "the last line has no end: %s", text);
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		lines++;
	ck_assert_msg(!lines_max || lines <= lines_max, "%u lines: %s", lines, text);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		ck_assert_msg(strlen(line) < 80, "too wide for a terminal: %s", line);
	free(text);
}

START_TEST(help_fits_a_screen)
{
	check_screen(help_text(of_all, NULL), 23);
	for (const struct nvfs_group *g = nvfs_groups; g->name; g++) {
		check_screen(help_text(of_group, g), 23);
		for (const struct nvfs_command *c = g->commands; c->group; c++)
			check_screen(help_text(of_command, c), 0);
	}
}
END_TEST

static unsigned count_options(const struct nvfs_command *c)
{
	unsigned n = 0;

	for (const struct nvfs_option *o = c->options; o && o->name; o++)
		n++;
	return n;
}

/* What parsing relies on. */
static void check_command(const struct nvfs_group *g, const struct nvfs_command *c)
{
	ck_assert_str_eq(g->name, c->group);
	ck_assert_ptr_nonnull(c->run);
	ck_assert_uint_le(c->min, c->max);
	ck_assert_uint_le(count_options(c), NVFS_OPTIONS_MAX);
	ck_assert_msg(c->examples && !strncmp(c->examples, "nvfs ", 5), "nvfs %s %s has no example", c->group, c->verb);
	for (const struct nvfs_option *o = c->options; o && o->name; o++) {
		ck_assert_msg((o->kind == OPTION_FLAG) == !o->value, "--%s of nvfs %s %s", o->name, c->group, c->verb);
		ck_assert_ptr_nonnull(o->help);
	}
}

static void check_same_option(const struct nvfs_option *a, const struct nvfs_option *b)
{
	if (strcmp(a->name, b->name))
		return;
	ck_assert_msg((a->kind == OPTION_FLAG) == (b->kind == OPTION_FLAG), "--%s has a value here and none there", a->name);
	ck_assert_msg(a->letter == b->letter, "--%s has two letters", a->name);
}

START_TEST(tables_are_sound)
{
	for (const struct nvfs_group *g = nvfs_groups; g->name; g++)
		for (const struct nvfs_command *c = g->commands; c->group; c++) {
			check_command(g, c);
			for (const struct nvfs_option *o = c->options; o && o->name; o++) {
				for (const struct nvfs_option *p = nvfs_common_options; p->name; p++)
					ck_assert_str_ne(o->name, p->name);
				for (const struct nvfs_group *h = nvfs_groups; h->name; h++)
					for (const struct nvfs_command *d = h->commands; d->group; d++)
						for (const struct nvfs_option *p = d->options; p && p->name; p++)
							check_same_option(o, p);
			}
		}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("command");
	TCase *parsing = tcase_create("parsing"), *help = tcase_create("help"), *rest = tcase_create("rest");

	tcase_add_test(parsing, words_and_options_in_any_order);
	tcase_add_test(parsing, a_word_can_be_a_command);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		tcase_add_loop_exit_test(parsing, wrong_usage_is_2, EXIT_USAGE, (int)i, (int)i + 1);
	tcase_add_loop_exit_test(help, help_is_no_error, EXIT_OK, 0, 7);
	tcase_add_test(help, help_fits_a_screen);
	tcase_add_test(help, tables_are_sound);
	tcase_add_loop_test(rest, what_fits_is_offered, 0, sizeof(completions) / sizeof(completions[0]));
	tcase_add_test(rest, odd_lines_are_no_harm);
	tcase_add_test(rest, top_shows_differences);
	tcase_add_test(rest, top_adds_up_tenants_and_sorts);
	tcase_add_test(rest, top_says_who_was_held_by_what);
	tcase_add_test(rest, waits_until_nothing_is_swept);
	tcase_add_test(rest, waits_for_nothing_that_does_not_come);
	tcase_add_test(rest, kinds_of_errors_have_codes);
	tcase_add_test(rest, colours_are_for_terminals);
	suite_add_tcase(s, rest);
	suite_add_tcase(s, parsing);
	suite_add_tcase(s, help);
	return unit_run_suite(s);
}
