/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_MOUNT_OPS_HARNESS_H
#define TESTS_MOUNT_OPS_HARNESS_H
/* What ops.c needs of a run and cases do not. */
#include "ops.h"

#define OPS_LOG_BYTES (4u << 20)
#define OPS_REASON_BYTES 1024u

enum ops_status { OPS_PASSED, OPS_FAILED, OPS_SKIPPED };

/* In memory shared with the case's process, so that it survives whatever happens to that. */
struct ops_result {
	enum ops_status status;
	bool finished;
	char reason[OPS_REASON_BYTES];
	size_t used;
	char log[OPS_LOG_BYTES];
};

struct t {
	const struct op_case *oc;
	struct ops_result *res;
	long fs;
	bool as_root;
	uid_t uid;
	gid_t gid;
};

/*
 * Runs one case in a new directory below DIR in a process of its own, as uid:gid, and removes the directory. RES is
 * shared memory of the caller. A case that takes longer than a minute is killed and has failed.
 */
void ops_run_case(const struct op_case *oc, const char *dir, uid_t uid, gid_t gid, struct ops_result *res);

/* What ops_option() knows: names with commas between them, that stay where they are. */
void ops_set_options(const char *names);

#endif
