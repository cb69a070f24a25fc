// Figures as people read them. What is not known is a dash.

export const UNKNOWN = '–';
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const OF_DAY = { hour: '2-digit', minute: '2-digit', second: '2-digit' };
const clock = new Intl.DateTimeFormat('en-GB', OF_DAY);
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', ...OF_DAY });

const ifKnown = (say) => (value) => (Number.isFinite(value) ? say(value) : UNKNOWN);
const inTime = (form) => ifKnown((at_ms) => (Math.abs(at_ms) < 8.64e15 ? form.format(at_ms) : UNKNOWN));

/** As many digits as matter: 0.62, 5.6, 13.2, 1,137. */
const short = (value) => {
	if (value > 0 && value < 0.01) return '<0.01';
	return Math.abs(value) >= 100 ? whole.format(value) : String(Number(value.toPrecision(Math.abs(value) >= 10 ? 3 : 2)));
};

export const count = ifKnown(whole.format);
export const number = ifKnown(short);
export const perSecond = ifKnown((value) => `${short(value)}/s`);
export const share = ifKnown((value) => `${value > 0 && value < 0.01 ? (value * 100).toPrecision(1) : Math.round(value * 100)}%`);
export const time = inTime(clock);
export const dayTime = inTime(day);

/** A latency: figure and unit, since the overview sets the unit smaller. */
export function latency(value) {
	if (!Number.isFinite(value)) return [UNKNOWN, ''];
	return value >= 1000 ? [short(value / 1000), 's'] : [short(value), 'ms'];
}
export const ms = (value) => latency(value).join(' ').trim();

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
export const bytes = ifKnown((value) => {
	const unit = value < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(value) / 10));
	return `${short(value / 1024 ** unit)} ${UNITS[unit]}`;
});

/** A span of time, in the largest unit that says enough. */
export const seconds = ifKnown((value) => {
	if (value < 1) return `${Math.round(Math.max(0, value) * 1000)} ms`;
	if (value < 10) return `${Number(value.toFixed(1))} s`;
	const [size, unit] = [[172800, 86400, 'd'], [7200, 3600, 'h'], [120, 60, 'min'], [0, 1, 's']].find(([from]) => value >= from).slice(1);
	return `${Math.round(value / size)} ${unit}`;
});

/** "1 request", "2 requests". */
export const plural = (n, one) => `${count(n)} ${one}${n === 1 ? '' : 's'}`;

/** What a batch costs, as it was fitted: "2.1 ms + 0.44 ms a row". */
export function cost(worker) {
	if (!Number.isFinite(worker.per_row_ms)) return UNKNOWN;
	return `${ms(worker.fixed_ms)} + ${ms(worker.per_row_ms)} a ${String(worker.unit || 'row').replace(/s$/, '')}`;
}
