/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Completion, from the tables of commands. What a positional word can be follows from how the command's `args` call it: POOL,
 * POOL:VOL, POOL:VOL@SNAP, POOL/TENANT, DEVICE; what is called NEW is the user's own.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "cli/completion.h"
#include "cli/nvfs.h"
#include "fs/client.h"
#include "io/cleanup.h"

#define WORDS_MAX 256
#define ANSWER_S 2 /* somebody waits for the Tab key */

struct line {
	char *text;
	const char *words[WORDS_MAX]; /* without nvfs; the last one is to be completed */
	unsigned count;
	const struct nvfs_group *group;
	const struct nvfs_command *command;
	const struct nvfs_option *value_of; /* the last word is a value of this option */
	unsigned position; /* of the last word among those that are no options; from 0, group and verb not counted */
	const char *first;    /* of those words, or NULL */
	char prefix[64];      /* "--tenant=" where the value is in the same word as its option */
	bool lost; /* there is no such command */
	json_t *out;
};

static bool begins(const char *word, const char *with)
{
	return !strncmp(word, with, strlen(with));
}

static const char *last_word(const struct line *l)
{
	return l->words[l->count - 1];
}

/* When it begins as the last word does. */
static void offer(struct line *l, const char *word)
{
	const json_t *other;
	size_t i;

	if (!begins(word, last_word(l)))
		return;
	json_array_foreach(l->out, i, other)
		if (!strcmp(json_string_value(other), word))
			return;
	json_array_append_new(l->out, json_string(word));
}

/* ---- The line ---- */

static void split(struct line *l)
{
	char *save = NULL;
	const size_t len = strlen(l->text);
	const bool fresh = !len || strchr(" \t", l->text[len - 1]);

	strtok_r(l->text, " \t", &save); /* nvfs */
	for (char *w = strtok_r(NULL, " \t", &save); w && l->count < WORDS_MAX - 1; w = strtok_r(NULL, " \t", &save))
		l->words[l->count++] = w;
	if (fresh || !l->count)
		l->words[l->count++] = "";
}

static const struct nvfs_option *find_in(const struct nvfs_option *options, const char *name, size_t len)
{
	for (; options && options->name; options++)
		if (strlen(options->name) == len && !strncmp(options->name, name, len))
			return options;
	return NULL;
}

/* An option of the line by its word, whichever command has it. */
static const struct nvfs_option *find_option(const char *word)
{
	const size_t len = strcspn(word + 2, "=");
	const struct nvfs_option *o = find_in(nvfs_common_options, word + 2, len);

	for (const struct nvfs_group *g = nvfs_groups; !o && g->name; g++)
		for (const struct nvfs_command *c = g->commands; !o && c->group; c++)
			o = find_in(c->options, word + 2, len);
	return o;
}

static void take_plain_word(struct line *l, const char *word)
{
	if (l->lost || (!l->group && !strcmp(word, "help")))
		return;
	if (!l->group) {
		l->group = nvfs_find_group(word);
		l->lost = !l->group;
		if (l->group && !l->group->commands->verb)
			l->command = l->group->commands;
	} else if (!l->command) {
		l->command = nvfs_find_command(l->group, word);
		l->lost = !l->command;
	} else {
		if (!l->position++)
			l->first = word;
	}
}

/* All but the last word. */
static void understand(struct line *l)
{
	for (unsigned i = 0; i + 1 < l->count; i++) {
		const struct nvfs_option *o = begins(l->words[i], "--") ? find_option(l->words[i]) : NULL;

		if (!begins(l->words[i], "-"))
			take_plain_word(l, l->words[i]);
		else if (o && o->value && !strchr(l->words[i], '=')) {
			if (i + 2 == l->count)
				l->value_of = o;
			i++;
		}
	}
}

/* ---- What is there ---- */

/* The answer of a pool to a request without keys, or NULL. */
static json_t *ask(const char *pool, const char *op)
{
	struct client *client;
	json_t *reply = NULL;

	if (client_connect(pool, &client))
		return NULL;
	client_set_timeout(client, ANSWER_S);
	if (client_call(client, json_pack("{s:s}", "op", op), -1, &reply))
		reply = NULL;
	client_close(client);
	return reply;
}

static int offer_pool(const char *pool, void *arg)
{
	offer(arg, pool);
	return 0;
}

static int offer_pool_colon(const char *pool, void *arg)
{
	char word[CLIENT_PATH_MAX + 2];

	snprintf(word, sizeof(word), "%s:", pool);
	offer(arg, word);
	return 0;
}

static int offer_pool_slash(const char *pool, void *arg)
{
	char word[CLIENT_PATH_MAX + 2];

	snprintf(word, sizeof(word), "%s/", pool);
	offer(arg, word);
	return 0;
}

/* POOL of "POOL:...", or NULL; the caller's. */
static char *pool_of(const char *word, char separator)
{
	const char *end = strchr(word, separator);

	return end ? strndup(word, (size_t)(end - word)) : NULL;
}

/* The names in a list of a pool's answer: "POOL:" first "@" second, or with a separator of its own. */
static void offer_list(struct line *l, const char *pool, const char *op, const char *list, char separator, const char *first,
		       const char *second, const char *behind)
{
	json_t *reply = ask(pool, op);
	const json_t *o;
	char word[1024];
	size_t i;

	json_array_foreach(json_object_get(reply, list), i, o) {
		snprintf(word, sizeof(word), "%s%c%s%s%s%s", pool, separator, json_text(o, first), second ? "@" : "",
			 second ? json_text(o, second) : "", behind);
		offer(l, word);
	}
	json_decref(reply);
}

/* kind: as `args` call the word, without brackets. plain: a pool alone will do. */
static void offer_source(struct line *l, const char *kind, bool plain)
{
	cleanup_free char *pool = pool_of(last_word(l), ':');
	const bool exists = !strstr(kind, ":NEW");

	if (!pool) {
		if (plain)
			client_each_pool(offer_pool, l);
		client_each_pool(offer_pool_colon, l);
	} else if (exists && strstr(kind, "@SNAP")) {
		offer_list(l, pool, "snapshot.list", "snapshots", ':', "subvolume", "snapshot", "");
	} else if (exists) {
		offer_list(l, pool, "subvolume.list", "subvolumes", ':', "name", NULL, strstr(kind, "@NEW") ? "@" : "");
	}
}

/* The value of an option: a name alone, of the pool that the line names, or of any. */
static int offer_tenant_names(const char *pool, void *arg)
{
	struct line *l = arg;
	json_t *reply = ask(pool, "tenant.list");
	const json_t *t;
	char word[320];
	size_t i;

	json_array_foreach(json_object_get(reply, "tenants"), i, t) {
		snprintf(word, sizeof(word), "%s%s", l->prefix, json_text(t, "name"));
		offer(l, word);
	}
	json_decref(reply);
	return 0;
}

static void offer_tenant_value(struct line *l)
{
	cleanup_free char *pool = l->first ? pool_of(l->first, ':') : NULL;

	if (pool)
		offer_tenant_names(pool, l);
	else
		client_each_pool(offer_tenant_names, l);
}

static void offer_tenant(struct line *l, const char *kind)
{
	cleanup_free char *pool = pool_of(last_word(l), '/');

	if (!pool)
		client_each_pool(offer_pool_slash, l);
	else if (!strstr(kind, "/NEW"))
		offer_list(l, pool, "tenant.list", "tenants", '/', "name", NULL, "");
}

static void offer_files(struct line *l)
{
	json_array_append_new(l->out, json_string("?files"));
}

/* One of several that a word can be. */
static void offer_kind(struct line *l, const char *kind, bool plain)
{
	if (!strncmp(kind, "POOL/", 5))
		offer_tenant(l, kind);
	else if (!strncmp(kind, "POOL:", 5))
		offer_source(l, kind, plain);
	else if (!strcmp(kind, "POOL"))
		client_each_pool(offer_pool, l);
	else if (!strcmp(kind, "DEVICE"))
		offer_files(l);
	else if (*kind >= 'a' && *kind <= 'z') /* the word itself */
		offer(l, kind);
}

/* "POOL:VOL[@SNAP]" can be both, "[POOL]" one. */
static void offer_token(struct line *l, char *token)
{
	char plain[128], *to = plain, *save = NULL;
	const bool optional_volume = strstr(token, "[:") != NULL;
	const char *optional_snapshot = strstr(token, "[@");

	for (const char *from = token; *from && to < plain + sizeof(plain) - 1; from++)
		if (!strchr("[].", *from))
			*to++ = *from;
	*to = '\0';
	for (char *kind = strtok_r(plain, "|", &save); kind; kind = strtok_r(NULL, "|", &save)) {
		offer_kind(l, kind, optional_volume);
		if (optional_snapshot && strchr(kind, '@')) {
			*strchr(kind, '@') = '\0';
			offer_kind(l, kind, optional_volume);
		}
	}
}

/* The last of them may be repeated. */
static void offer_argument(struct line *l)
{
	cleanup_free char *args = strdup(l->command->args);
	char *save = NULL, *last = NULL;
	unsigned i = 0;

	if (!args)
		return;
	for (char *token = strtok_r(args, " ", &save); token; token = strtok_r(NULL, " ", &save), i++) {
		last = token;
		if (i == l->position) {
			offer_token(l, token);
			return;
		}
	}
	if (last && strstr(last, "..."))
		offer_token(l, last);
}

/* ---- Words of the program ---- */

static void offer_options(struct line *l, const struct nvfs_option *options)
{
	char word[64];

	for (; options && options->name; options++) {
		if (options->value && options->kind != OPTION_CHOICE)
			snprintf(word, sizeof(word), "--%s", options->name);
		else
			snprintf(word, sizeof(word), "--%s%s", options->name, options->value ? "=" : "");
		offer(l, word);
	}
}

/* What can stand behind l->prefix. */
static void offer_values(struct line *l, const struct nvfs_option *o)
{
	char word[128];

	if (o->value && !strcmp(o->value, "TENANT"))
		offer_tenant_value(l);

	for (const char *at = o->kind == OPTION_CHOICE ? o->value : NULL; at; at = strchr(at, '|')) {
		at += *at == '|';
		snprintf(word, sizeof(word), "%s%.*s", l->prefix, (int)strcspn(at, "|"), at);
		offer(l, word);
	}
}

static void offer_all_options(struct line *l)
{
	const char *word = last_word(l), *equals = strchr(word, '=');
	const struct nvfs_option *o = equals ? find_option(word) : NULL;

	if (o) {
		snprintf(l->prefix, sizeof(l->prefix), "--%s=", o->name);
		offer_values(l, o);
		return;
	}
	if (l->command)
		offer_options(l, l->command->options);
	for (const struct nvfs_option *c = nvfs_common_options; c->name; c++)
		if (!l->command || nvfs_has_common(l->command, c)) {
			const struct nvfs_option one[2] = {*c};

			offer_options(l, one);
		}
}

static void offer_groups(struct line *l)
{
	for (const struct nvfs_group *g = nvfs_groups; g->name; g++)
		offer(l, g->name);
}

static void offer_verbs(struct line *l)
{
	for (const struct nvfs_command *c = l->group->commands; c->group; c++)
		if (!(c->flags & NVFS_HIDDEN))
			offer(l, c->verb);
}

static void offer_what_fits(struct line *l)
{
	if (l->value_of)
		offer_values(l, l->value_of);
	else if (begins(last_word(l), "--") || !strcmp(last_word(l), "-"))
		offer_all_options(l);
	else if (l->command)
		offer_argument(l);
	else if (l->group)
		offer_verbs(l);
	else
		offer_groups(l);
}

json_t *completion_words(const char *line)
{
	struct line l = {.text = strdup(line), .out = json_array()};

	if (!l.text)
		return l.out;
	split(&l);
	understand(&l);
	if (!l.lost)
		offer_what_fits(&l);
	free(l.text);
	return l.out;
}
