// Six charts on one time axis. They draw what history.js holds; uPlot is loaded before this module.
import { div, el, panel, setText, span } from './dom.js';
import * as format from './format.js';
import { ask } from './api.js';
import { History, extent } from './history.js';

const RANGES = [[15, '15 min'], [60, '1 h'], [360, '6 h'], [1440, '24 h']];
const POINTS = 360;
const REFRESH_MS = 60000;
const HEIGHT = 132;
const SAY_MS = 10000; // a screen reader needs that long for a chart's sentence
const TONES = { 0: 'accent', 1: 'accent-2', 2: 'accent-3', bad: 'bad' };
const CHARTS = [
	{ title: 'Requests', say: format.perSecond, series: [['rate', 'answered', 0], ['errors', 'errors', 'bad']] },
	{ title: 'Latency', say: format.ms, isBare: true, series: [['p50_ms', 'p50', 2], ['p95_ms', 'p95', 1], ['p99_ms', 'p99', 0]] },
	{ title: 'In the queue', say: format.number, series: [['depth', '', 0]] },
	{ title: 'Device busy', say: format.share, top: 1, series: [['busy', '', 0]] },
	{ title: 'Batch size', say: format.number, series: [['batch', '', 0]] },
	{ title: 'Goodput', say: format.share, top: 1, series: [['goodput', '', 0]] },
];

const clock = (at_s, step_s) => format.time(at_s * 1000).slice(0, step_s < 60 ? 8 : 5);

export class Charts {
	constructor() {
		Object.assign(this, { history: new History(), minutes: 15, now_s: null, probe: el('span', { hidden: true }), note: span('soft') });
		this.charts = CHARTS.map((spec) => new Chart(spec, this));
		const ranges = el('fieldset', { class: 'choice' }, el('legend', { class: 'hidden' }, 'Time shown'), ...RANGES.map(([minutes, label]) =>
			el('label', {}, el('input', { type: 'radio', name: 'range', checked: minutes === this.minutes, onchange: () => this.#range(minutes) }), span('', label))));
		this.node = panel('Over time', [this.note, ranges], div('charts', ...this.charts.map((chart) => chart.node)), this.probe);
		addEventListener('themechange', () => this.isShown && this.#build());
		new ResizeObserver(() => this.isShown && this.charts.forEach((chart) => chart.fit())).observe(this.node);
	}

	#range(minutes) {
		this.minutes = minutes;
		this.history.clear();
		this.load();
	}

	show(isShown) {
		this.isShown = isShown;
		if (isShown) requestAnimationFrame(() => this.#build());
	}

	#build() {
		for (const chart of this.charts) chart.build();
		this.draw();
	}

	/** Loads the past of the chosen time. */
	async load() {
		const { model, minutes } = this;
		if (!model) return;
		this.loaded_ms = performance.now();
		let said = this.wentBack ?? '';
		try {
			const past = await ask('console/history', { model, minutes, points: POINTS });
			if (model !== this.model || minutes !== this.minutes) return;
			this.history.replace(past);
			for (const chart of this.charts) chart.said_ms = -SAY_MS;
		} catch (error) {
			said = `The past cannot be shown: ${error.message}`;
		}
		setText(this.note, said);
		this.draw();
	}

	/** Adds the present; another model begins with its own past. */
	update(at_s, figures) {
		if (figures.name !== this.model) {
			Object.assign(this, { model: figures.name, now_s: at_s, wentBack: '' });
			this.history.clear();
			this.load();
			return;
		}
		const span_s = this.minutes * 60;
		const value = (key) => figures[key === 'errors' ? 'errors_rate' : key];
		if (!this.history.add(at_s, value, span_s / 600, Math.max(20, span_s / 60))) {
			this.wentBack = `The server's clock was set back to ${format.time(at_s * 1000)}; the charts begin there.`;
			this.history.clear();
			this.loaded_ms = -Infinity;
		}
		this.now_s = at_s;
		this.history.forget(at_s - span_s - 60);
		if (performance.now() - this.loaded_ms > REFRESH_MS) this.load();
		else this.draw();
	}

	draw() {
		if (this.isShown && !document.hidden) for (const chart of this.charts) chart.draw();
	}
}

class Chart {
	constructor(spec, all) {
		Object.assign(this, { spec, all, plot: null, isSeen: true, said_ms: -SAY_MS });
		this.holder = el('div', { class: 'plot', role: 'img' });
		this.values = spec.series.map(() => el('b'));
		const keys = spec.series.map(([, label, tone], i) => span(`key tone-${tone}`, label && el('i'), label && `${label} `, this.values[i]));
		this.node = el('figure', { class: 'chart' }, el('figcaption', {}, el('b', {}, spec.title), ...keys), this.holder);
		new IntersectionObserver(([entry]) => {
			this.isSeen = entry.isIntersecting;
			this.draw();
		}).observe(this.node);
	}

	/** A colour as the browser resolves it: a canvas knows no variables. */
	#tone(name) {
		this.all.probe.style.color = `var(--${name})`;
		return getComputedStyle(this.all.probe).color;
	}

	build() {
		this.plot?.destroy();
		const axis = { stroke: this.#tone('soft'), font: '11px Inter, system-ui, sans-serif', ticks: { show: false } };
		const series = this.spec.series.map(([, label, name], i) => {
			const stroke = this.#tone(TONES[name]);
			return { label, stroke, width: 1.5, points: { show: false }, fill: i || this.spec.isBare ? null : this.#tone('fill') };
		});
		this.plot = new uPlot({
			width: this.holder.clientWidth, height: HEIGHT, padding: [8, 20, 0, 0], legend: { show: false },
			cursor: { sync: { key: 'time' }, y: false, points: { size: 6 }, drag: { x: false, y: false } },
			hooks: { setCursor: [() => this.#caption()] },
			scales: { x: { range: () => [this.#now() - this.all.minutes * 60, this.#now()] }, y: { range: (_, low, high) => [0, this.spec.top ? 1.03 : (high || 1) * 1.12] } },
			axes: [
				{ ...axis, grid: { show: false }, space: 70, size: 24, values: (_, at, __, ___, step_s) => at.map((at_s) => clock(at_s, step_s)) },
				{ ...axis, grid: { stroke: this.#tone('line'), width: 1 }, size: 52, space: 34, values: (_, values) => values.map(this.spec.say) },
			],
			series: [{}, ...series],
		}, this.#data(), this.holder);
	}

	#now() {
		return this.all.now_s ?? Date.now() / 1000;
	}

	#data() {
		const { columns } = this.all.history;
		return [columns.at, ...this.spec.series.map(([key]) => columns[key])];
	}

	fit() {
		const width = this.holder.clientWidth;
		if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
	}

	draw() {
		if (!this.plot) return;
		if (this.isSeen) this.plot.setData(this.#data());
		this.#caption();
	}

	/** The figures at the cursor, or the latest. */
	#caption() {
		const at = this.plot?.cursor.idx ?? -1;
		const columns = this.#data().slice(1);
		columns.forEach((column, i) => setText(this.values[i], this.spec.say(column.at(at))));
		if (performance.now() - this.said_ms < SAY_MS) return;
		this.said_ms = performance.now();
		const range = RANGES.find(([minutes]) => minutes === this.all.minutes)[1];
		const parts = columns.map((column, i) => {
			const known = extent(column)?.map(this.spec.say);
			return `${this.spec.series[i][1]} ${known ? `now ${known[0]}, between ${known[1]} and ${known[2]}` : 'unknown'}`.trim();
		});
		this.holder.setAttribute('aria-label', `${this.spec.title}, last ${range}: ${parts.join('; ')}.`);
	}
}
