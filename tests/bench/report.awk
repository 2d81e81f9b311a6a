# SPDX-License-Identifier: MIT
#
# Writes the benchmark's results:
# awk -v out=table|row|json|svg [-v only=ROW] -f stats.awk -f report.awk -f plot.awk bench.tsv

END {
	work_out()
	if (out == "row") write_row(only)
	else if (out == "table") write_table()
	else if (out == "json") write_json()
	else if (out == "svg") write_svg()
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
	printf "\nAs quick as the bare directory: 1.00; half as quick: 0.50\n"
	if (value_of["scale"] != 100) printf "A trial: sizes at %s%% of what the rows say\n", value_of["scale"]
	printf "\n%-16s", ""
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

# ---- JSON ----

function quoted(text) {
	gsub(/\\/, "\\\\", text)
	gsub(/"/, "\\\"", text)
	gsub(/[\001-\037]/, " ", text)
	return "\"" text "\""
}

# A member of an object, with its comma; numbers as they are.
function member(name, value) {
	return quoted(name) ": " value ", "
}

function samples(table, row, target,   i, text) {
	for (i = 1; i <= count[row, target]; i++)
		text = text (i > 1 ? ", " : "") sprintf("%.6g", table[row, target, i])
	return "[" text "]"
}

function write_json(   i) {
	printf "{\n  \"machine\": {\n"
	for (i = 1; i <= nkeys; i++)
		printf "    %s: %s%s\n", quoted(keys[i]), quoted(value_of[keys[i]]), i < nkeys ? "," : ""
	printf "  },\n  \"targets\": [\n"
	for (i = 1; i <= ntargets; i++)
		printf "    { %s%s\"text\": %s }%s\n", member("name", quoted(targets[i])),
			member("kind", quoted(kind[targets[i]])), quoted(target_text[targets[i]]), i < ntargets ? "," : ""
	printf "  ],\n  \"left_out\": [\n"
	for (i = 1; i <= nabsent; i++)
		printf "    { %s\"reason\": %s }%s\n", member("name", quoted(absent[i])), quoted(reason[i]),
			i < nabsent ? "," : ""
	printf "  ],\n  \"rows\": [\n"
	for (i = 1; i <= nrows; i++) json_row(rows[i], i < nrows ? "," : "")
	printf "  ]\n}\n"
}

function json_row(row, comma,   t) {
	printf "    { %s%s%s%s\n      %s\"results\": [\n", member("name", quoted(row)), member("unit", quoted(unit[row])),
		member("better", less_is_better(row) ? "\"less\"" : "\"more\""), member("text", quoted(row_text[row])),
		member("best_peer", row in best_peer ? quoted(best_peer[row]) : "null")
	for (t = 1; t <= ntargets; t++)
		printf "        { %s%s }%s\n", member("target", quoted(targets[t])), json_result(row, targets[t]),
			t < ntargets ? "," : ""
	printf "      ] }%s\n", comma
}

function json_result(row, target,   text) {
	if (!good(row, target))
		return "\"failed\": " quoted((row, target) in failure ? failure[row, target] : "not measured")
	text = member("median", sprintf("%.6g", med[row, target])) member("low", sprintf("%.6g", low[row, target])) \
		member("high", sprintf("%.6g", high[row, target])) member("samples", samples(sample, row, target))
	if ((row, target) in ratio)
		text = text member("to_bare", sprintf("%.4g", ratio[row, target])) \
			member("to_bare_low", sprintf("%.4g", ratio_low[row, target])) \
			member("to_bare_high", sprintf("%.4g", ratio_high[row, target]))
	if ((row, target) in by_peer) text = text member("to_best_peer", sprintf("%.4g", by_peer[row, target]))
	return text member("operations", samples(operations, row, target)) \
		member("cpu_us_per_operation", sprintf("%.4g", cpu_op[row, target])) \
		"\"machine_cpu_us_per_operation\": " sprintf("%.4g", machine_op[row, target])
}
