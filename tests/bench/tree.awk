# SPDX-License-Identifier: MIT
#
# Writes the tree of small files that the rows untar, find, grep, cp, rm and git work on, the same every time:
# awk -v dir=DIR -v files=9000 -v bytes=120000000 -f tree.awk; 30 files a directory, sizes from a few bytes to
# some 80 KB with many small ones, words as in source code. Prints how many files it wrote.

# Numbers below n (at most 32768), from a generator of our own: those of the awks differ.
function chance(n) {
	state = (state * 16807) % 2147483647
	return int(state / 65536) % n
}

BEGIN {
	state = 7
	words = split("int return struct static const char void if else for while buffer length offset " \
		"request reply queue batch error file inode handle { } ( ) ; = == -> + 0 1 42 NULL \"text\"", word, " ")
	for (i = 0; i < 400; i++) {
		line = ""
		for (n = 3 + chance(9); n > 0; n--) line = line word[1 + chance(words)] " "
		lines[i] = line chance(30000) "\n"
	}
	mean = bytes / files
	for (f = 0; f < files; f++) {
		if (f % 30 == 0) {
			path = sprintf("%s/part%d/dir%d", dir, f / 900, f / 30)
			system("mkdir -p " path)
		}
		name = sprintf("%s/file%d.c", path, f)
		# Half of them small, some large; the mean is as asked.
		size = chance(2) ? mean * (chance(1000) / 1000) * 0.5 : mean * (0.25 + chance(1000) / 1000 * 3)
		text = "/* file " f " */\n"
		while (length(text) < size) text = text lines[chance(400)]
		printf "%s", text >name
		close(name)
	}
	print files
}
