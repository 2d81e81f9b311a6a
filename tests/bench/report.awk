# SPDX-License-Identifier: MIT
#
# Writes the benchmark's results: awk -v out=table|row|json [-v only=ROW] -f stats.awk -f report.awk bench.tsv

END {
	work_out()
	if (out == "row") write_row(only)
	else if (out == "table") write_table()
}

# ---- On the terminal ----

function number(v) {
	if (v >= 1000) return sprintf("%.0f", v)
	if (v >= 100) return sprintf("%.1f", v)
	return sprintf("%.3g", v)
}

# awk's %-10s counts bytes, and ± has two.
function cell(text, width,   n) {
	n = length(text)
	if (index(text, "±") && length("±") == 2) n--
	return sprintf("%" (width > n ? width - n : 0) "s%s", "", text)
}

function write_row(row,   t, target) {
	printf "\n%s: %s (%s)\n", row, row_text[row], unit[row] == "s" ? "seconds" : unit[row]
	printf "  %-14s %10s %6s %9s %13s %11s\n", "", "median", "spread", "to bare", "to best peer", "cpu us/op"
	for (t = 1; t <= ntargets; t++) {
		target = targets[t]
		if (!good(row, target)) {
			printf "  %-14s failed: %s\n", target, (row, target) in failure ? failure[row, target] : "not measured"
			continue
		}
		printf "  %-14s %10s %s %9s %13s %11s\n", target, number(med[row, target]),
			cell(spread(row, target), 6),
			(row, target) in ratio ? sprintf("%.2f", ratio[row, target]) : "-",
			(row, target) in by_peer ? sprintf("%.2f", by_peer[row, target]) : "-",
			number(cpu_op[row, target])
	}
}

function write_table(   r, t, i, row, target, text) {
	printf "\nAs quick as the bare directory: 1.00; half as quick: 0.50\n\n%-16s", ""
	for (t = 1; t <= ntargets; t++)
		if (targets[t] != "bare") printf " %*s", width(targets[t]), targets[t]
	printf "\n"
	for (r = 1; r <= nrows; r++) {
		row = rows[r]
		printf "%-16s", row
		for (t = 1; t <= ntargets; t++) {
			target = targets[t]
			if (target == "bare") continue
			text = !good(row, target) ? "failed" : (row, target) in ratio ? \
				sprintf("%.2f", ratio[row, target]) : "-"
			printf " %*s", width(target), text
		}
		printf "\n"
	}
	for (i = 1; i <= nabsent; i++) printf "%sLeft out: %s: %s\n", i == 1 ? "\n" : "", absent[i], reason[i]
}

function width(target) {
	return length(target) > 6 ? length(target) : 6
}
