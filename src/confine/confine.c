/* SPDX-License-Identifier: MIT */
/* One wall after another; see confine.h. */
#include "confine/confine.h"

#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"

#ifdef BATCHIOFS_SANITIZED
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

static const struct {
	enum confine_wall wall;
	const char *name;
} names[] = {
	{CONFINE_NAMESPACE, "namespace"},
	{CONFINE_ROOT, "root"},
	{CONFINE_NETWORK, "network"},
	{CONFINE_CAPABILITIES, "capabilities"},
	{CONFINE_LANDLOCK, "landlock"},
	{CONFINE_SECCOMP, "seccomp"},
};

#define N_NAMES (sizeof(names) / sizeof(names[0]))

/* The wall if it stands. */
static unsigned built(enum confine_wall wall, int error)
{
	char name[32];

	if (error && geteuid() == 0)
		log_warning("confine: without %s: %s", confine_names(wall, name, sizeof(name)),
			strerror(-error));
	return error ? 0 : wall;
}

/* Before the capabilities go that it takes. */
static unsigned leave(const struct confine_wish *wish)
{
	int error = confine_proc(wish->proc_fd);
	unsigned walls = 0;

	/* In this order: who is in a namespace with nothing in it reaches the source by its
	 * descriptor alone. */
	if (!error)
		walls |= built(CONFINE_NAMESPACE, confine_namespace());
	if (wish->uring)
		walls |= built(CONFINE_NETWORK, confine_network());
	return walls | built(CONFINE_ROOT, error ? error : confine_root(wish->root_fd));
}

unsigned confine(const struct confine_wish *wish)
{
	bool privileged = capability_held(CAP_SYS_ADMIN) && capability_held(CAP_SYS_CHROOT);
	unsigned walls = 0;

	if (privileged && !IS_SANITIZED)
		walls = leave(wish);
	walls |= built(CONFINE_CAPABILITIES, confine_capabilities());
	if (IS_SANITIZED)
		return walls;
	/* Objects opened by their handles lie nowhere, as far as landlock can tell. */
	if (!(walls & CONFINE_ROOT) && !capability_held(CAP_DAC_READ_SEARCH))
		walls |= built(CONFINE_LANDLOCK, confine_landlock(wish->root_fd, wish->proc_fd));
	return walls | built(CONFINE_SECCOMP, confine_seccomp(wish->uring));
}

char *confine_names(unsigned walls, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < N_NAMES; i++) {
		if (walls & names[i].wall && used < size)
			used += (size_t)snprintf(
				text + used, size - used, "%s%s", used ? "," : "", names[i].name);
	}
	return text;
}
