# SPDX-License-Identifier: MIT
#
# Builds, tests, installs and tries out batchiofs. `make help` lists the targets.
#
# One make, no recursion into folders. Everything made lies under $(B), so variants live side by
# side: build/ (usual), build/asan, build/tsan, build/clang. The targets a user calls (demo, test,
# mount, check, ...) first run `setup`, which installs missing Debian packages, then call make again
# for the build: only then does pkg-config know what has just been installed.

VERSION   := 0.1.0
SOVERSION := 0

# ---- What may be set on the command line ----

B         := build
URING     := 1
PREFIX    := /usr/local
BINDIR    := $(PREFIX)/bin
LIBDIR    := $(PREFIX)/lib
INCDIR    := $(PREFIX)/include
MANDIR    := $(PREFIX)/share/man
# mount(8) looks for helpers in /sbin (and /sbin/fs.d, /sbin/fs) and nowhere else.
HELPERDIR := /sbin
UNITDIR   := $(PREFIX)/lib/systemd/system
DESTDIR   :=
# Comma list for -fsanitize, e.g. address,undefined.
SANITIZE  :=
OPT       := -O2
CFLAGS    := -g
LDFLAGS   :=
# Parts of `make test`: extended regular expressions for suites (T) and for bats test names (F).
T         :=
F         :=
# Of `make mutants`: an extended regular expression for their names.
M          :=
# 1: the checks of `make check` as the first suite of `make test` (.ci/run).
CHECK     :=
# Of `make mount`.
SOURCE     :=
MOUNTPOINT := $(SOURCE)
BACKEND    := auto
# Of `make bench`; empty is the script's own choice.
ROWS    :=
ROUNDS  :=
TARGETS :=
SECONDS :=
SCALE   :=
DIR     :=
V          :=

ifeq ($(origin CC),default)
CC := gcc
endif

# ---- Flags ----

comma := ,
# Evaluated when first used, and once: after `setup` may have installed the .pc files.
once = $(eval $(1) := $(2))$($(1))
FUSE_CFLAGS  = $(call once,FUSE_CFLAGS,$(shell pkg-config --cflags fuse3 2>/dev/null))
FUSE_LIBS    = $(call once,FUSE_LIBS,$(shell pkg-config --libs fuse3 2>/dev/null))
ifneq ($(URING),0)
URING_CFLAGS = -DBATCHIO_URING=1 $(call once,URING_PC_CFLAGS,$(shell pkg-config --cflags liburing 2>/dev/null))
URING_LIBS   = $(call once,URING_LIBS,$(shell pkg-config --libs liburing 2>/dev/null))
URING_PC     := -luring
else
URING_CFLAGS := -DBATCHIO_URING=0
URING_LIBS   :=
URING_PC     :=
endif

SANITIZE_FLAGS := $(if $(SANITIZE),-DBATCHIOFS_SANITIZED -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)

ALL_CFLAGS = -std=gnu11 $(OPT) -Wall -Wextra -Werror -pthread -fPIC -Isrc -Itests \
	-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=314 \
	-DBATCHIOFS_VERSION='"$(VERSION)"' \
	$(URING_CFLAGS) $(FUSE_CFLAGS) $(SANITIZE_FLAGS) $(CFLAGS)
ALL_LDFLAGS = -pthread $(SANITIZE_FLAGS) $(LDFLAGS)
COMPILE     = $(CC) $(ALL_CFLAGS)
LINK        = $(CC) $(ALL_LDFLAGS)

# Short lines; `make V=1` shows the commands.
ifeq ($(V),)
Q   := @
say  = @printf '  %-5s %s\n' '$(1)' '$(2)'
else
Q   :=
say  = @:
endif

# ---- Sources and what is made of them ----

CORE_DIRS   := cmd control supervise confine fs loop transport coalesce stats base
BATCHIO_SRC := $(sort $(wildcard src/batchio/*.c))
CORE_SRC    := $(sort $(filter-out src/main.c,$(wildcard src/*.c)) $(wildcard $(CORE_DIRS:%=src/%/*.c)))
TOOL_SRC    := $(sort $(wildcard tests/support/*_tool.c))
PRELOAD_SRC := $(sort $(wildcard tests/support/*_preload.c))
SUPPORT_SRC := $(filter-out $(TOOL_SRC) $(PRELOAD_SRC),$(sort $(wildcard tests/support/*.c)))
BENCH_SRC   := $(sort $(wildcard tests/bench/*_tool.c))
FAULTY_SRC  := $(sort $(wildcard tests/support/faulty/*.c))
UNIT_SRC    := $(sort $(wildcard tests/unit/*_test.c))
SIM_SRC     := $(sort $(wildcard tests/sim/*.c))

objects      = $(patsubst %.c,$(B)/obj/%.o,$(1))
BATCHIO_OBJ := $(call objects,$(BATCHIO_SRC))
CORE_OBJ    := $(call objects,$(CORE_SRC))
SUPPORT_OBJ := $(call objects,$(SUPPORT_SRC))
FAULTY_OBJ  := $(call objects,$(FAULTY_SRC))
SIM_OBJ     := $(call objects,$(SIM_SRC))
ALL_OBJ     := $(call objects,$(wildcard src/main.c) $(BATCHIO_SRC) $(CORE_SRC) $(SUPPORT_SRC) \
	$(FAULTY_SRC) $(TOOL_SRC) $(PRELOAD_SRC) $(BENCH_SRC) $(UNIT_SRC) $(SIM_SRC))

LIB_A    := $(B)/libbatchio.a
LIB_REAL := $(B)/libbatchio.so.$(VERSION)
LIB_SO   := $(B)/libbatchio.so
PC       := $(B)/batchio.pc
CORE_A   := $(B)/libcore.a
PROGRAM  := $(B)/batchiofs
UNITS    := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/%)
TOOLS    := $(TOOL_SRC:tests/support/%.c=$(B)/tests/%)
# Without io_uring's own there is nothing to try with.
PRELOADS := $(if $(filter-out 0,$(URING)),$(PRELOAD_SRC:tests/support/%.c=$(B)/tests/%.so))
FAULTY      := $(B)/faulty/batchiofs
BENCH_TOOLS := $(BENCH_SRC:tests/bench/%.c=$(B)/bench/%)
SIM      := $(if $(SIM_SRC),$(B)/tests/sim)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all tests benchmarks objects FORCE

all: $(PROGRAM) $(LIB_A) $(LIB_SO) $(PC)

# Everything that the tests run, in one go.
tests: all $(UNITS) $(TOOLS) $(PRELOADS) $(SIM) $(FAULTY)

# What `make bench` runs.
benchmarks: all $(BENCH_TOOLS)

# Compiles all and links nothing (make check, with both compilers).
objects: $(ALL_OBJ)

# Other flags or another compiler make everything anew. Also the place where a missing package is
# named, before the compiler stumbles over its headers.
$(B)/flags: FORCE
	@tests/support/setup.sh --check build URING=$(URING)
	@mkdir -p $(B)
	@printf '%s\n' '$(subst ','\'',$(COMPILE) | $(LINK))' | cmp -s - $@ || \
		printf '%s\n' '$(subst ','\'',$(COMPILE) | $(LINK))' >$@

# A source that came or went makes the archives anew.
$(B)/sources: FORCE | $(B)/flags
	@echo '$(CORE_SRC) $(BATCHIO_SRC) $(SUPPORT_SRC)' | cmp -s - $@ || \
		echo '$(CORE_SRC) $(BATCHIO_SRC) $(SUPPORT_SRC)' >$@

$(B)/obj/%.o: %.c $(B)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) -MMD -MP -c -o $@ $<

$(LIB_A): $(BATCHIO_OBJ) $(B)/sources
$(CORE_A): $(CORE_OBJ) $(B)/sources
$(B)/libtestsupport.a: $(SUPPORT_OBJ) $(B)/sources
%.a:
	$(call say,AR,$@)
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

$(LIB_REAL): $(BATCHIO_OBJ) src/batchio/batchio.map $(B)/sources
	$(call say,LD,$@)
	$(Q)$(LINK) -shared -Wl,-soname,libbatchio.so.$(SOVERSION) \
		-Wl,--version-script=src/batchio/batchio.map $(if $(SANITIZE),,-Wl,-z,defs) \
		-o $@ $(filter %.o,$^) $(URING_LIBS)

$(LIB_SO): $(LIB_REAL)
	@ln -sf $(<F) $(B)/libbatchio.so.$(SOVERSION)
	@ln -sf libbatchio.so.$(SOVERSION) $@
	@touch -c $<

fill_pc = sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' \
	-e 's|@INCLUDEDIR@|$(INCDIR)|g' -e 's|@VERSION@|$(VERSION)|g' \
	-e 's|@URING_LIBS@|$(URING_PC)|g' src/batchio/batchio.pc.in

$(PC): src/batchio/batchio.pc.in $(B)/flags
	$(Q)$(fill_pc) >$@
	@! grep -n '@' $@ # a placeholder that nobody filled

$(PROGRAM): $(B)/obj/src/main.o $(CORE_A) $(LIB_A)
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(FUSE_LIBS) $(URING_LIBS)

# The program with what can be made to fail in front of the library and the C library. A sanitizer has
# its own functions for memory, so there only calls of ours are taken.
FAULTY_WRAP := $(if $(SANITIZE),-Wl$(comma)--wrap=malloc$(comma)--wrap=calloc$(comma)--wrap=realloc)

$(FAULTY): $(B)/obj/src/main.o $(FAULTY_OBJ) $(CORE_A) $(LIB_A)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) $(FAULTY_WRAP) -o $@ $^ $(FUSE_LIBS) $(URING_LIBS)

# Objects first: those of FAULTY_OBJ stand for some of the library's.
$(UNITS): $(B)/tests/%: $(B)/obj/tests/unit/%.o $(B)/libtestsupport.a $(CORE_A) $(LIB_A)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) $(if $(filter $(FAULTY_OBJ),$^),$(FAULTY_WRAP)) -o $@ $(filter %.o,$^) $(filter %.a,$^) \
		$(FUSE_LIBS) $(URING_LIBS)

$(B)/tests/batchio_sweep_test: $(FAULTY_OBJ)

$(B)/tests/sim: $(SIM_OBJ) $(B)/libtestsupport.a $(CORE_A) $(LIB_A)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(FUSE_LIBS) $(URING_LIBS)

$(TOOLS): $(B)/tests/%: $(B)/obj/tests/support/%.o $(B)/libtestsupport.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(FUSE_LIBS)

$(PRELOADS): $(B)/tests/%.so: $(B)/obj/tests/support/%.o
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -shared -o $@ $^ $(URING_LIBS) -ldl

$(BENCH_TOOLS): $(B)/bench/%: $(B)/obj/tests/bench/%.o
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^

-include $(ALL_OBJ:.o=.d)

# ---- What a user calls ----

.PHONY: help setup demo test bench mutants check format asan tsan mount install uninstall clean

JOBS  := $(shell nproc 2>/dev/null || echo 1)
# As many jobs as processors, unless -j was given.
build  = $(MAKE) --no-print-directory -O $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS))
setup  = tests/support/setup.sh
runner = B='$(1)' URING='$(URING)' T='$(T)' F='$(F)' CHECK='$(CHECK)' tests/run

help:
	@printf '%s\n' \
	'make              the program and the libraries, in $(B)/' \
	'make demo         installs what is missing, builds, shows both backends at work (2 minutes)' \
	'make mount SOURCE=dir [MOUNTPOINT=dir] [BACKEND=auto|uring|standard]' \
	'                  mounts your own directory, over itself unless MOUNTPOINT is given' \
	'make test         all tests; T=regex some suites (T=unit, T="mount/smoke.*uring"),' \
	'                  F=regex some bats tests by name' \
	'make bench        beside the bare directory and other passthroughs, in turn (see tests/bench/README.md);' \
	'                  ROWS=regex TARGETS=regex ROUNDS=n SECONDS=n SCALE=percent DIR=where' \
	'make mutants      are deliberate faults, one by one, caught by the tests? M=regex: some of them' \
	'make check        format, warnings (gcc, clang), cppcheck, shellcheck, the rules of the house' \
	'make format       rewrites the C files as .clang-format has them' \
	'make asan         all tests with AddressSanitizer and UndefinedBehaviorSanitizer' \
	'make tsan         all tests with ThreadSanitizer' \
	'make setup        installs missing Debian packages, for building, testing and checking' \
	'make install      PREFIX=$(PREFIX) HELPERDIR=$(HELPERDIR) (mount(8) helpers) DESTDIR=' \
	'make uninstall    takes away what install put there, same variables' \
	'make clean        removes $(B)/' \
	'' \
	'Variables: B=dir (where to build), CC, CFLAGS, LDFLAGS, OPT=-O2, SANITIZE=list,' \
	'URING=0 (without io_uring and liburing), V=1 (show commands)'

setup:
	@$(setup) build test check URING=$(URING)

demo:
	@$(setup) build demo URING=$(URING)
	@+$(build) all
	@B='$(B)' URING='$(URING)' tests/demo.sh

test:
	@$(setup) build test $(if $(CHECK),check) URING=$(URING)
	@+$(build) tests
	@$(call runner,$(B))

# A peer that Debian's archive no longer has is left out, with the reason.
bench:
	@$(setup) build bench URING=$(URING)
	@$(setup) peers || echo 'Going on without them.'
	@+$(build) benchmarks
	@B='$(B)' URING='$(URING)' ROWS='$(ROWS)' ROUNDS='$(ROUNDS)' TARGETS='$(TARGETS)' \
		BENCH_SECONDS='$(SECONDS)' SCALE='$(SCALE)' DIR='$(DIR)' tests/bench/run

asan:
	@$(setup) build test URING=$(URING)
	@+$(build) tests B=build/asan SANITIZE=address,undefined OPT=-O1
	@$(call runner,build/asan)

# Without address randomisation: ThreadSanitizer's shadow memory wants its fixed places.
tsan:
	@$(setup) build test URING=$(URING)
	@+$(build) tests B=build/tsan SANITIZE=thread OPT=-O1
	@setarch -R env $(call runner,build/tsan)

# Each builds a tree of its own below $(B)/mutants.
mutants:
	@$(setup) build test URING=$(URING)
	@+$(build) tests
	@B='$(B)' URING='$(URING)' M='$(M)' tests/mutants/run

check:
	@$(setup) build check URING=$(URING)
	@B='$(B)' URING='$(URING)' tests/support/check.sh

format:
	clang-format -i $$(find src tests -name '*.[ch]')

mount:
	@if [ -z '$(SOURCE)' ]; then \
		echo 'make mount: SOURCE is missing: make mount SOURCE=dir [MOUNTPOINT=dir]' \
			'[BACKEND=auto|uring|standard]' >&2; exit 1; fi
	@$(setup) build URING=$(URING)
	@+$(build) all
	@$(PROGRAM) '$(SOURCE)' '$(MOUNTPOINT)' -o 'backend=$(BACKEND)'
	@echo 'Mounted $(SOURCE) at $(MOUNTPOINT).'
	@echo "Look at it:  $(PROGRAM) stats '$(MOUNTPOINT)'"
	@echo "Unmount it:  $(PROGRAM) umount '$(MOUNTPOINT)'"

fill_helper = sed -e 's|@BINDIR@|$(BINDIR)|g'
D := $(DESTDIR)

install: all
	install -d '$(D)$(BINDIR)' '$(D)$(LIBDIR)/pkgconfig' '$(D)$(INCDIR)' '$(D)$(HELPERDIR)' \
		'$(D)$(MANDIR)/man3' '$(D)$(MANDIR)/man8' '$(D)$(UNITDIR)'
	install -m 755 $(PROGRAM) '$(D)$(BINDIR)/batchiofs'
	install -m 644 $(LIB_A) '$(D)$(LIBDIR)/'
	install -m 755 $(LIB_REAL) '$(D)$(LIBDIR)/'
	ln -sf libbatchio.so.$(VERSION) '$(D)$(LIBDIR)/libbatchio.so.$(SOVERSION)'
	ln -sf libbatchio.so.$(SOVERSION) '$(D)$(LIBDIR)/libbatchio.so'
	install -m 644 src/batchio/batchio.h '$(D)$(INCDIR)/'
	$(fill_pc) >'$(D)$(LIBDIR)/pkgconfig/batchio.pc'
	for helper in mount umount; do \
		$(fill_helper) mount/$$helper.batchiofs >'$(D)$(HELPERDIR)/'$$helper.batchiofs && \
		chmod 755 '$(D)$(HELPERDIR)/'$$helper.batchiofs && \
		ln -sf $$helper.batchiofs '$(D)$(HELPERDIR)/'$$helper.fuse.batchiofs || exit 1; done
	$(fill_helper) mount/batchiofs@.service >'$(D)$(UNITDIR)/batchiofs@.service'
	chmod 644 '$(D)$(UNITDIR)/batchiofs@.service'
	install -m 644 mount/batchiofs.8 mount/mount.batchiofs.8 '$(D)$(MANDIR)/man8/'
	if [ -e mount/batchio.3 ]; then install -m 644 mount/batchio.3 '$(D)$(MANDIR)/man3/'; fi
	if [ -z '$(D)' ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

uninstall:
	rm -f '$(D)$(BINDIR)/batchiofs' '$(D)$(INCDIR)/batchio.h' \
		'$(D)$(LIBDIR)/libbatchio.a' '$(D)$(LIBDIR)/libbatchio.so' \
		'$(D)$(LIBDIR)/libbatchio.so.$(SOVERSION)' '$(D)$(LIBDIR)/libbatchio.so.$(VERSION)' \
		'$(D)$(LIBDIR)/pkgconfig/batchio.pc' \
		'$(D)$(HELPERDIR)/mount.batchiofs' '$(D)$(HELPERDIR)/mount.fuse.batchiofs' \
		'$(D)$(HELPERDIR)/umount.batchiofs' '$(D)$(HELPERDIR)/umount.fuse.batchiofs' \
		'$(D)$(MANDIR)/man8/batchiofs.8' '$(D)$(MANDIR)/man8/mount.batchiofs.8' \
		'$(D)$(MANDIR)/man3/batchio.3' '$(D)$(UNITDIR)/batchiofs@.service'
	if [ -z '$(D)' ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

clean:
	rm -rf '$(B)'
