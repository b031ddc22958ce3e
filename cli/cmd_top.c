/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/top_stats.h"
#include "io/size.h"

/*
 * Each round asks every pool for what its subvolumes did since they were mounted, and shows the differences to the last round. On a
 * terminal the screen is drawn again in place, and keys choose the order; otherwise one table comes after the other.
 */

struct pools {
	char **names;
	size_t count;
	json_t **last; /* of each the answer of the round before, or NULL */
	bool *silent;  /* it did not answer, which was said */
};

struct view {
	bool tenants, live, json;
	char sort;
	double interval;
};

/* ---- The pools ---- */

static int add_pool(const char *pool, void *arg)
{
	struct pools *p = arg;
	char **names = realloc(p->names, (p->count + 1) * sizeof(*names));
	json_t **last = realloc(p->last, (p->count + 1) * sizeof(*last));
	bool *silent = realloc(p->silent, (p->count + 1) * sizeof(*silent));

	if (!names || !last || !silent)
		die(EXIT_REFUSED, "out of memory");
	p->names = names;
	p->last = last;
	p->silent = silent;
	p->last[p->count] = NULL;
	p->silent[p->count] = false;
	p->names[p->count] = strdup(pool);
	if (!p->names[p->count++])
		die(EXIT_REFUSED, "out of memory");
	return 0;
}

static void find_pools(struct pools *p, const struct nvfs_args *a)
{
	struct pool_ref ref;

	if (!a->count) {
		nvfs_each_pool(add_pool, p);
		return;
	}
	client_close(nvfs_connect(a->words[0], -1, &ref));
	add_pool(ref.pool, p);
	pool_ref_free(&ref);
}

/* Adds what each pool did since the last round; a pool that does not answer is left out. The number of those that did. */
static size_t take_round(struct pools *p, struct top *top, uint64_t *dirty, uint64_t *cap)
{
	size_t answers = 0;

	*dirty = *cap = 0;
	for (size_t i = 0; i < p->count; i++) {
		json_t *now = nvfs_ask(p->names[i], "top", p->silent[i]);

		if (now && top_add(top, p->last[i], now))
			die(EXIT_REFUSED, "out of memory");
		*dirty += json_u64(now, "dirty_bytes");
		*cap += json_u64(now, "dirty_cap_bytes");
		json_decref(p->last[i]);
		p->last[i] = now;
		p->silent[i] = !now;
		answers += now != NULL;
	}
	return answers;
}

static void free_pools(struct pools *p)
{
	for (size_t i = 0; i < p->count; i++) {
		free(p->names[i]);
		json_decref(p->last[i]);
	}
	free(p->names);
	free(p->last);
	free(p->silent);
}

/* ---- The terminal ---- */

static struct termios before;
static bool changed;
static volatile sig_atomic_t ended;

static void restore(void)
{
	if (changed)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	changed = false;
}

static void on_signal(int sig)
{
	(void)sig;
	ended = 1;
}

/* Keys come without Enter and are not shown. */
static void take_terminal(void)
{
	const struct sigaction end = {.sa_handler = on_signal};
	struct termios raw;

	sigaction(SIGINT, &end, NULL);
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGHUP, &end, NULL);
	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before))
		return;
	raw = before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	changed = true;
	atexit(restore);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

static void screen_size(unsigned *rows, unsigned *columns)
{
	struct winsize size;

	*rows = 24;
	*columns = 80;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row && size.ws_col) {
		*rows = size.ws_row;
		*columns = size.ws_col;
	}
}

/* Waits for the next round. A key may change the view, which is drawn again at once: true; false: the time is over. */
static bool wait_for_key(struct view *v, struct pollfd *p, int timeout_ms)
{
	char key;

	if (poll(p, 1, timeout_ms) <= 0)
		return false;
	if (read(p->fd, &key, 1) != 1) {
		p->fd = -1; /* nobody types any more */
		return false;
	}
	if (key == 'q' || key == 'Q')
		ended = 1;
	else if (key == 'T')
		v->tenants = !v->tenants;
	else if (strchr("anrwbldct", key))
		v->sort = key;
	return true;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- Printing ---- */

static void rate_cell(struct table *t, double n)
{
	if (n >= 999500)
		table_cell(t, "%.1fM", n / 1e6);
	else if (n >= 9999.5)
		table_cell(t, "%.0fk", n / 1e3);
	else if (n >= 10 || n == 0)
		table_cell(t, "%.0f", n);
	else
		table_cell(t, "%.1f", n);
}

static void bytes_cell(struct table *t, double bytes)
{
	char text[SIZE_TEXT_MAX];

	table_cell(t, "%s", size_text((uint64_t)bytes, text, sizeof(text)));
}

static void time_cell(struct table *t, double us)
{
	if (us <= 0)
		table_cell(t, "-");
	else if (us < 999.5)
		table_cell(t, "%.0fus", us);
	else if (us < 99950)
		table_cell(t, "%.1fms", us / 1e3);
	else
		table_cell(t, "%.1fs", us / 1e6);
}

static void print_row(struct table *t, const struct top_row *r)
{
	table_cell(t, "%s", r->name);
	rate_cell(t, top_rate(r, r->counts[TOP_READ]));
	rate_cell(t, top_rate(r, r->counts[TOP_WRITE]));
	bytes_cell(t, top_rate(r, r->read_bytes));
	bytes_cell(t, top_rate(r, r->written_bytes));
	time_cell(t, top_mean_us(r, TOP_READ));
	time_cell(t, top_p99_us(r, TOP_READ));
	time_cell(t, top_mean_us(r, TOP_WRITE));
	time_cell(t, top_p99_us(r, TOP_WRITE));
	rate_cell(t, top_rate(r, r->counts[TOP_SYNC]));
	rate_cell(t, top_rate(r, r->counts[TOP_OTHER]));
	rate_cell(t, top_rate(r, r->throttled));
	table_cell(t, "%s", top_held_by(r) ? top_held_by(r) : "-");
	bytes_cell(t, (double)r->dirty_bytes);
	table_cell(t, "%llu", (unsigned long long)r->cached_inodes);
}

static void print_table(const struct top *top, const struct view *v, unsigned rows, unsigned columns)
{
	struct table *t = table_new(v->tenants ? "TENANT >READ/s >WRITE/s >READ >WRITTEN >RMEAN >R99% >WMEAN >W99% >SYNC/s >OTHER/s >LATE/s HELD-BY >DIRTY >INODES"
					       : "SUBVOLUME >READ/s >WRITE/s >READ >WRITTEN >RMEAN >R99% >WMEAN >W99% >SYNC/s >OTHER/s >LATE/s HELD-BY >DIRTY >INODES");

	if (!t)
		die(EXIT_REFUSED, "out of memory");
	for (size_t i = 0; i < top->count && i < rows; i++)
		print_row(t, &top->rows[i]);
	table_width(t, columns);
	if (table_print(t, stdout))
		die(EXIT_REFUSED, "out of memory");
}

static void print_round_json(const struct top *top, const struct view *v)
{
	json_t *rows = json_array(), *round;

	for (size_t i = 0; i < top->count; i++)
		json_array_append_new(rows, top_row_json(&top->rows[i], v->tenants));
	round = json_pack("{s:I,s:o}", "time", (json_int_t)time(NULL), v->tenants ? "tenants" : "subvolumes", rows);
	print_json_line(round);
	json_decref(round);
}

static void print_head(uint64_t dirty, uint64_t cap)
{
	char d[SIZE_TEXT_MAX], c[SIZE_TEXT_MAX];

	fputs("\033[H\033[J", stdout);
	colour_print(stdout, COLOUR_BOLD, "nvfs top");
	if (cap) /* owners of tenants are not told */
		printf("  dirty %s of %s ", size_text(dirty, d, sizeof(d)), size_text(cap, c, sizeof(c)));
	fputs("  keys: a all, r w reads writes, b bytes, l latency,\n"
	      "  t late, d dirty, c cached, n name, T tenants, q quit\n", stdout);
}

/* A copy: sorting and adding up change it. */
static void show(const struct top *all, const struct view *v, uint64_t dirty, uint64_t cap)
{
	struct top top = {.rows = malloc((all->count + 1) * sizeof(*all->rows)), .count = all->count};
	unsigned rows = UINT32_MAX, columns = 0;

	if (!top.rows)
		die(EXIT_REFUSED, "out of memory");
	if (all->count)
		memcpy(top.rows, all->rows, all->count * sizeof(*all->rows));
	if (v->tenants)
		top_by_tenant(&top);
	top_sort(&top, v->sort);
	if (v->json) {
		print_round_json(&top, v);
	} else {
		if (v->live) {
			print_head(dirty, cap);
			screen_size(&rows, &columns);
			rows = rows > 4 ? rows - 4 : 1;
		}
		print_table(&top, v, rows, columns);
	}
	top_free(&top);
	if (fflush(stdout))
		ended = 1;
}

/* ---- Rounds ---- */

static void pause_round(struct view *v, struct pollfd *keys, const struct top *top, uint64_t dirty, uint64_t cap)
{
	const int64_t until = now_ms() + llround(v->interval * 1000);
	int64_t left;

	while (!ended && (left = until - now_ms()) > 0)
		if (wait_for_key(v, keys, (int)left) && !ended)
			show(top, v, dirty, cap);
}

static int rounds(struct pools *pools, struct view *v, bool once)
{
	struct pollfd keys = {.fd = v->live ? STDIN_FILENO : -1, .events = POLLIN};
	struct top top = {0};
	uint64_t dirty, cap;

	/* What the first differences are to. */
	if (!take_round(pools, &top, &dirty, &cap))
		return EXIT_NOT_SERVED;
	if (v->live)
		show(&top, v, dirty, cap);
	while (!ended) {
		pause_round(v, &keys, &top, dirty, cap);
		if (ended)
			break;
		top_free(&top);
		if (!take_round(pools, &top, &dirty, &cap)) {
			report("no pool answers any more");
			return EXIT_NOT_SERVED;
		}
		show(&top, v, dirty, cap);
		if (once)
			break;
		if (!v->live && !v->json)
			putchar('\n');
	}
	top_free(&top);
	return EXIT_OK;
}

static double interval_of(const struct nvfs_args *a)
{
	const char *text = arg_text(a, "interval");
	char *end;
	double s;

	if (!text)
		return 1;
	s = strtod(text, &end);
	if (end == text || *end || !(s >= 0.1 && s <= 3600))
		die(EXIT_USAGE, "--interval %s is no number of seconds from 0.1 to 3600", text);
	return s;
}

static int cmd_top(const struct nvfs_args *a)
{
	const bool once = arg_given(a, "once");
	struct view v = {.tenants = arg_given(a, "tenants"), .json = a->json, .sort = 'a', .interval = interval_of(a)};
	struct pools pools = {0};
	int status;

	v.live = !once && !a->json && screen_wanted();
	find_pools(&pools, a);
	if (!pools.count)
		die(EXIT_NOT_SERVED, "no pool is served; nvfs pool start POOL starts one");
	if (v.live)
		take_terminal();
	status = rounds(&pools, &v, once);
	restore();
	free_pools(&pools);
	return status;
}

static const struct nvfs_option top_options[] = {
	{"once", OPTION_FLAG, NULL, "one table, of one interval, and no more", 0},
	{"interval", OPTION_TEXT, "SECONDS", "between two rounds; 1", 0},
	{"tenants", OPTION_FLAG, NULL, "added up by tenant", 0},
	{.name = NULL},
};

const struct nvfs_command top_commands[] = {
	{.group = "top", .run = cmd_top, .min = 0, .max = 1, .args = "[POOL]", .options = top_options,
	 .help = "what mounted subvolumes do now",
	 .more = "Rates of reads, writes, syncs and other requests; bytes; mean and 99th\n"
		 "percentile of the time to the answer; requests that a limit held back (late);\n"
		 "dirty data and inodes in memory. Keys change the order; with --json one object\n"
		 "a line.",
	 .examples = "nvfs top\n"
		     "nvfs top tank --once --interval 10\n"
		     "nvfs top --tenants --once --json"},
	{.group = NULL},
};
