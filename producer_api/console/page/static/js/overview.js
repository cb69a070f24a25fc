// The chosen model at a glance: key figures, charts, lanes, workers.
import { bar, button, div, el, live, panel, setClass, setText, show, span } from './dom.js';
import * as format from './format.js';
import { act } from './api.js';
import { Charts } from './charts.js';
import { confirm } from './dialog.js';
import { Table, column } from './table.js';

const BAD_SHARE = 0.01;
const length = (list) => (Array.isArray(list) ? list.length : 0);

/** A key figure: its name, the figure with a smaller unit, and a note. */
function figure(label) {
	const [value, unit, note] = [span(), span('unit'), el('dd', { class: 'note' })];
	const node = div('', el('dt', {}, label), el('dd', {}, value, unit), note);
	const set = ([text, of], said, isBad = false) => {
		setText(value, text);
		setText(unit, of);
		setText(note, said);
		setClass(node, isBad ? 'bad' : '');
	};
	return { node, set };
}

class Figures {
	constructor() {
		Object.assign(this, { rate: figure('Answered'), p99: figure('p99 latency'), depth: figure('In the queue'), busy: figure('Device busy'), errors: figure('Errors') });
		this.node = el('dl', { class: 'figures' }, ...Object.values(this).map((one) => one.node));
	}

	update(model) {
		const oldest_s = Math.max(0, ...(model.lanes ?? []).map((lane) => (lane.kind !== 'batch' && lane.oldest_s) || 0));
		const errors = model.errors_rate || 0;
		const lost = errors / (errors + (model.rate || 0)) || 0;
		const busy = format.share(model.busy);
		const [inTime, hits] = [model.goodput, model.cache?.hit_ratio].map((one) => Number.isFinite(one) && format.share(one));
		this.rate.set([format.number(model.rate), '/s'], [inTime && `${inTime} in time`, hits && `${hits} from the cache`].filter(Boolean).join(' · '));
		this.p99.set(format.latency(model.p99_ms), `p50 ${format.ms(model.p50_ms)}`);
		this.depth.set([format.count(model.depth), ''], oldest_s ? `oldest ${format.seconds(oldest_s)}` : 'nothing waits');
		this.busy.set([busy.replace('%', ''), busy.endsWith('%') ? '%' : ''], `${format.plural(length(model.workers), 'worker')}, batches of ${format.number(model.batch)}`, !length(model.workers));
		this.errors.set([format.number(model.errors_rate), '/s'], `${format.share(lost)} of all · ${format.plural(model.dead || 0, 'dead letter')}`, lost >= BAD_SHARE);
	}
}

/** A cell with a bar and a text; `read` gives both. */
const meter = (read) => (row) => {
	const [shape, text] = [bar(), span()];
	return live(span('meter', shape, text), row, (now) => {
		const [share, said] = read(now);
		shape.set(share);
		show(shape, Number.isFinite(share));
		setText(text, said);
	});
};

function stateOf(worker) {
	const node = span();
	return live(node, worker, ({ late_s, serving }) => {
		const isActive = !serving || serving === 'open';
		setText(node, late_s > 0 ? `silent for ${format.seconds(late_s)}` : isActive ? 'serving' : serving);
		setClass(node, `chip ${late_s > 0 ? 'bad' : isActive ? 'on' : 'warn'}`);
	});
}

function kindOf(lane) {
	const [kind, paused] = [span(), span('chip warn', 'paused')];
	return live(span('', kind, ' ', paused), lane, (now) => {
		setText(kind, now.kind);
		setClass(kind, now.kind === 'batch' ? 'chip on' : 'chip plain');
		show(paused, now.paused);
	});
}

const ofLimit = (say, value, limit) => (limit ? `${say(value)} of ${say(limit)}` : say(value));

const WORKERS = [
	column('Worker', 'name', 'name'), column('Host', 'host', 'wide'), column('Device', 'device', 'far'),
	column('Runtime', 'runtime', '', (runtime, w) => [runtime, w.precision].filter(Boolean).join(' · ') || format.UNKNOWN), column('Version', 'version', 'far'),
	column('Busy', 'busy', 'num', null, meter((w) => [w.busy, format.share(w.busy)])), column('Batch', 'batch', 'num wide', format.number),
	column('Cost of a batch', 'per_row_ms', 'num wide', (_, w) => format.cost(w)),
	column('Slots', 'running', 'num far', (running, w) => (w.slots ? `${format.count(running)} of ${format.count(w.slots)}, ${format.number(w.tokens_per_s)} tokens/s` : format.UNKNOWN)),
	column('State', 'serving', '', null, stateOf),
];

export class Overview {
	constructor(app) {
		Object.assign(this, { app, figures: new Figures(), charts: new Charts() });
		this.lanes = new Table({
			caption: 'Lanes', id: 'name', words: ['name', 'kind'], size: 16, empty: 'No lane is known of this model yet.',
			columns: [
				column('Lane', 'name', 'name'), column('Kind', 'kind', '', null, kindOf),
				column('In the queue', 'depth', 'num', null, meter((lane) => [lane.limit && lane.depth / lane.limit, ofLimit(format.count, lane.depth, lane.limit)])),
				column('Running', 'running', 'num wide', format.count), column('Rate', 'rate', 'num wide', format.perSecond), column('Oldest', 'oldest_s', 'num far', format.seconds),
				column('Weight', 'weight', 'num far', format.number), column('Bytes', 'bytes', 'num far', (bytes, lane) => ofLimit(format.bytes, bytes, lane.bytes_limit)),
				column('Dead', 'dead', 'num wide', null, (lane) => this.#dead(lane)), column('Action', '', 'act', null, (lane) => this.#pause(lane)),
			],
		});
		this.workers = new Table({ caption: 'Workers', id: 'name', columns: WORKERS, words: ['name', 'host', 'device', 'runtime', 'precision', 'version', 'serving'], empty: 'No worker serves this model now.' });
		this.lanesPanel = panel('Lanes', [this.lanes.search], this.lanes.node);
		this.workersPanel = panel('Workers', [this.workers.search], this.workers.node);
		this.node = el('div', { hidden: true }, this.figures.node, this.charts.node, this.lanesPanel, this.workersPanel);
	}

	#dead(lane) {
		const link = el('a');
		return live(link, lane, ({ dead, name }) => {
			setText(link, format.count(dead));
			if (dead) link.href = this.app.hash('dead', { lane: name });
			else link.removeAttribute('href');
		});
	}

	#pause(lane) {
		const node = button('', async () => {
			const { name, paused } = lane;
			const text = [`Requests for ${this.app.model} in this lane are still taken; they wait until you resume it.`];
			if (!paused && !(await confirm({ title: `Pause the lane ${name}?`, text, verb: 'Pause' }))) return;
			this.app.do(act('console/lanes/pause', { model: this.app.model, lane: name, paused: !paused }), `The lane ${name} ${paused ? 'goes on' : 'is paused'}.`);
		}, 'small');
		return live(node, lane, (now) => {
			lane = now;
			const verb = now.paused ? 'Resume' : 'Pause';
			show(node, this.app.mayAct);
			setText(node, verb);
			node.setAttribute('aria-label', `${verb} the lane ${now.name}`);
		});
	}

	show(isShown) {
		this.charts.show(isShown);
	}

	update({ model, at_ms }) {
		show(this.node, true);
		this.figures.update(model);
		this.charts.update(at_ms / 1000, model);
		for (const [table, section, name] of [[this.lanes, this.lanesPanel, 'lanes'], [this.workers, this.workersPanel, 'workers']]) {
			table.set(model[name]);
			setText(section.heading, `${name[0].toUpperCase()}${name.slice(1)} · ${format.count(length(model[name]))}`);
		}
	}
}
