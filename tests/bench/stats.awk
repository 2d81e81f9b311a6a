# SPDX-License-Identifier: MIT
#
# Reads bench.tsv and works out the figures that report.awk writes: medians, spreads, ratios, processor time.
# Lines of bench.tsv, by their first field:
#   K key value                      T target kind text         R row unit text        X what reason (left out)
#   M row target round value operations seconds client daemon machine      F row target round reason (failed)

BEGIN { FS = "\t" }

$1 == "K" { keys[++nkeys] = $2; value_of[$2] = $3 }
$1 == "T" { targets[++ntargets] = $2; kind[$2] = $3; target_text[$2] = $4 }
$1 == "R" { rows[++nrows] = $2; unit[$2] = $3; row_text[$2] = $4 }
$1 == "X" { absent[++nabsent] = $2; reason[nabsent] = $3 }
$1 == "F" { failure[$2, $3] = $5 }
$1 == "M" {
	n = ++count[$2, $3]
	sample[$2, $3, n] = $5
	operations[$2, $3, n] = $6
	client[$2, $3, n] = $8
	daemon[$2, $3, n] = $9
	machine[$2, $3, n] = $10
	if ($6 > 0) {
		cpu[$2, $3, n] = ($8 + $9) / $6 * 1e6
		machine_cpu[$2, $3, n] = $10 / $6 * 1e6
	}
}

# The median of the n values table[row, target, 1..n]; LOW and HIGH are the least and the greatest.
function median(table, row, target, n,   i, j, v, sorted) {
	for (i = 1; i <= n; i++) {
		v = table[row, target, i] + 0
		for (j = i - 1; j >= 1 && sorted[j] > v; j--) sorted[j + 1] = sorted[j]
		sorted[j + 1] = v
	}
	LOW = sorted[1]
	HIGH = sorted[n]
	if (n % 2) return sorted[(n + 1) / 2]
	return (sorted[n / 2] + sorted[n / 2 + 1]) / 2
}

function good(row, target) {
	return count[row, target] > 0 && !((row, target) in failure)
}

function less_is_better(row) {
	return unit[row] == "s" || unit[row] == "us"
}

# How quick a value is beside another, 1 when equal, more when quicker, whichever way the unit counts.
function quickness(row, value, beside) {
	if (value <= 0 || beside <= 0) return 0
	return less_is_better(row) ? beside / value : value / beside
}

# Fills med, low, high, ratio, ratio_low, ratio_high, by_peer, cpu_op, machine_op and best_peer.
function work_out(   r, t, row, target, n) {
	for (r = 1; r <= nrows; r++) {
		row = rows[r]
		for (t = 1; t <= ntargets; t++) {
			target = targets[t]
			if (!good(row, target)) continue
			n = count[row, target]
			cpu_op[row, target] = median(cpu, row, target, n)
			machine_op[row, target] = median(machine_cpu, row, target, n)
			med[row, target] = median(sample, row, target, n)
			low[row, target] = LOW
			high[row, target] = HIGH
		}
		for (t = 1; t <= ntargets; t++) ratios(row, targets[t])
		for (t = 1; t <= ntargets; t++) {
			target = targets[t]
			if (kind[target] == "peer" && good(row, target) &&
				(!(row in best_peer) ||
					quickness(row, med[row, target], med[row, best_peer[row]]) > 1))
				best_peer[row] = target
		}
		for (t = 1; t <= ntargets; t++) {
			target = targets[t]
			if (row in best_peer && good(row, target))
				by_peer[row, target] = quickness(row, med[row, target], med[row, best_peer[row]])
		}
	}
}

# Of the medians; and the least and greatest of the rounds, each beside the bare directory in the same round.
function ratios(row, target,   i, n, q) {
	if (!good(row, "bare") || !good(row, target)) return
	ratio[row, target] = quickness(row, med[row, target], med[row, "bare"])
	n = count[row, target]
	for (i = 1; i <= n; i++) {
		q = quickness(row, sample[row, target, i], sample[row, "bare", i])
		if (i == 1 || q < ratio_low[row, target]) ratio_low[row, target] = q
		if (i == 1 || q > ratio_high[row, target]) ratio_high[row, target] = q
	}
}

function spread(row, target,   m) {
	m = med[row, target]
	if (m <= 0 || count[row, target] < 2) return ""
	return sprintf("±%.0f%%", 100 * (high[row, target] - m > m - low[row, target] ? \
		high[row, target] - m : m - low[row, target]) / m)
}
