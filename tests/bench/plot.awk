# SPDX-License-Identifier: MIT
#
# The plot bench.svg: for each row a mark for each target, by its ratio to the bare directory, on a logarithmic axis;
# a line from the least to the greatest of the rounds. Used by report.awk, with stats.awk.

function write_svg(   r, t, n, y, top, height) {
	LEFT = 140
	RIGHT = 940
	colours("uring #1f77d0 uring-excl #0b2f6e ring #8a5fd0 ring-excl #3f1d7a standard #35b04a standard-excl #0b5221")
	colours("bindfs #8a8a8a mergerfs #9467bd ll #e8871e ll-wb #c0392b")
	nplotted = 0
	for (t = 1; t <= ntargets; t++)
		if (kind[targets[t]] != "bare") {
			plotted[++nplotted] = targets[t]
			if (!(targets[t] in colour)) colour[targets[t]] = "#444444"
		}
	find_range()
	step = nplotted * 5 + 8
	top = 84
	height = top + nrows * step + 30

	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", height
	printf "<rect width=\"960\" height=\"%d\" fill=\"#ffffff\"/>\n", height
	label(10, 20, "font-size=\"15\"", "As quick as the bare directory = 1; to the right is quicker")
	label(10, 37, "fill=\"#555555\"", value_of["version"] ", " value_of["kernel"] ", " value_of["processors"] ", " \
		value_of["source"] ", " value_of["rounds"] " rounds" (value_of["scale"] != 100 ? \
		", sizes at " value_of["scale"] "%" : ""))
	legend(56)
	axis(top, nrows * step)
	for (r = 1; r <= nrows; r++) {
		y = top + (r - 1) * step
		if (r % 2 == 0)
			printf "<rect x=\"0\" y=\"%d\" width=\"960\" height=\"%d\" fill=\"#000000\" fill-opacity=\"0.035\"/>\n", y, step
		label(LEFT - 8, y + step / 2 + 4, "text-anchor=\"end\"", rows[r])
		for (t = 1; t <= nplotted; t++) mark(rows[r], plotted[t], y + 6.5 + (t - 1) * 5)
	}
	printf "</svg>\n"
}

function colours(list,   n, i, words) {
	n = split(list, words, " ")
	for (i = 1; i < n; i += 2) colour[words[i]] = words[i + 1]
}

function escaped(text) {
	gsub(/&/, "\\&amp;", text)
	gsub(/</, "\\&lt;", text)
	gsub(/>/, "\\&gt;", text)
	return text
}

function label(x, y, style, text) {
	printf "<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n", x, y, style, escaped(text)
}

# The axis holds every ratio, and 1.
function find_range(   r, t, key) {
	least = 0.5
	most = 1.5
	for (r = 1; r <= nrows; r++)
		for (t = 1; t <= nplotted; t++) {
			if (!((rows[r], plotted[t]) in ratio)) continue
			key = rows[r] SUBSEP plotted[t]
			if (ratio_low[key] > 0 && ratio_low[key] < least) least = ratio_low[key]
			if (ratio_high[key] > most) most = ratio_high[key]
		}
	least *= 0.9
	most *= 1.1
}

function position(q) {
	if (q < least) q = least
	return LEFT + (RIGHT - LEFT) * (log(q) - log(least)) / (log(most) - log(least))
}

function axis(top, height,   power, i, q, steps) {
	split("1 2 5", steps, " ")
	for (power = -4; power <= 4; power++)
		for (i = 1; i <= 3; i++) {
			q = steps[i] * 10 ^ power
			if (q < least || q > most) continue
			printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"%s\"/>\n", position(q), position(q),
				top, top + height, q == 1 ? "#333333" : "#dddddd"
			label(position(q), top - 5, "text-anchor=\"middle\" fill=\"#555555\"", sprintf("%g", q))
			label(position(q), top + height + 16, "text-anchor=\"middle\" fill=\"#555555\"", sprintf("%g", q))
		}
}

function dot(x, y, target) {
	printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" stroke=\"%s\" stroke-width=\"1.3\" fill=\"%s\">", x, y, colour[target],
		kind[target] == "ours" ? colour[target] : "#ffffff"
}

function legend(y,   t, x) {
	x = 14
	for (t = 1; t <= nplotted; t++) {
		dot(x, y - 4, plotted[t])
		printf "</circle>\n"
		label(x + 8, y, "", plotted[t])
		x += 30 + 7 * length(plotted[t])
	}
	label(x, y, "fill=\"#555555\"", "\303\227 at the left: failed")
}

function mark(row, target, y) {
	if (!good(row, target)) {
		printf "<path d=\"M%d %.1f l5 5 m0 -5 l-5 5\" stroke=\"%s\" stroke-width=\"1.3\"><title>%s: %s failed</title></path>\n",
			LEFT + 1, y - 2.5, colour[target], escaped(row), escaped(target)
		return
	}
	if (!((row, target) in ratio)) return
	printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"1.3\"/>\n",
		position(ratio_low[row, target]), position(ratio_high[row, target]), y, y, colour[target]
	dot(position(ratio[row, target]), y, target)
	printf "<title>%s: %s %.2f (%.2f to %.2f)</title></circle>\n", escaped(row), escaped(target), ratio[row, target],
		ratio_low[row, target], ratio_high[row, target]
}
