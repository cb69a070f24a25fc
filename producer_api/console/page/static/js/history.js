// The figures behind the charts: columns by time, on the server's clock. Times only ever grow. Pure.

export const KEYS = ['rate', 'errors', 'p50_ms', 'p95_ms', 'p99_ms', 'depth', 'busy', 'batch', 'goodput'];
const BACK_S = 5; // the clocks of several front ends may differ by that

export class History {
	constructor() {
		this.clear();
	}

	clear() {
		this.columns = { at: [], ...Object.fromEntries(KEYS.map((key) => [key, []])) };
	}

	/** Takes the server's past; what came since then stays behind it. */
	replace(past) {
		const before = this.columns;
		this.clear();
		past.at_s?.forEach((at_s, i) => this.#push(at_s, (key) => past[key]?.[i], 2.5 * past.step_s));
		before.at.forEach((at_s, i) => this.#push(at_s, (key) => before[key][i], Infinity));
	}

	/**
	 * Adds a point of the present, unless it follows the last one sooner than `least_s`; after more than `gap_s` the line is broken.
	 * Returns false, and adds nothing, when the server's clock was set back.
	 */
	add(at_s, value, least_s, gap_s) {
		const last = this.columns.at.at(-1) ?? -Infinity;
		if (at_s < last - BACK_S) return false;
		if (at_s >= last + least_s) this.#push(at_s, value, gap_s);
		return true;
	}

	#push(at_s, value, gap_s) {
		const last = this.columns.at.at(-1) ?? Infinity;
		if (!Number.isFinite(at_s) || (Number.isFinite(last) && at_s <= last)) return;
		if (at_s - last > gap_s) this.#row((last + at_s) / 2, () => null);
		this.#row(at_s, value);
	}

	#row(at_s, value) {
		this.columns.at.push(at_s);
		for (const key of KEYS) this.columns[key].push(Number.isFinite(value(key)) ? value(key) : null);
	}

	/** Forgets what lies before a time; not each time, but once it is worth it. */
	forget(before_s) {
		const n = this.columns.at.findIndex((at_s) => at_s >= before_s);
		if (n > 50) for (const key of ['at', ...KEYS]) this.columns[key].splice(0, n);
	}
}

/** Latest, lowest and highest of a column; null when nothing is known. */
export function extent(column) {
	const known = column.filter((value) => value !== null);
	return known.length ? [known.at(-1), Math.min(...known), Math.max(...known)] : null;
}
