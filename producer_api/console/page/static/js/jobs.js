// Jobs: bulk batches of all lanes, with their progress.
import { bar, button, div, failure, fill, live, mono, panel, setClass, setText, show, span } from './dom.js';
import * as format from './format.js';
import { act, ask } from './api.js';
import { confirm } from './dialog.js';
import { Table, column } from './table.js';

const EVERY_MS = 3000;
const isOver = (job) => ['completed', 'cancelled', 'failed'].includes(job.state);
const when = (at_s) => format.dayTime(at_s && at_s * 1000);

export class Jobs {
	constructor(app) {
		this.app = app;
		this.table = new Table({
			caption: 'Jobs', words: ['id', 'lane', 'state'], empty: 'No bulk batch is known of this model.',
			columns: [
				column('Job', 'id', 'name', null, (job) => mono(job.id)), column('Lane', 'lane', 'wide'), column('State', 'state', '', null, stateOf),
				column('Progress', 'percent', '', null, progressOf), column('Failed', 'failed', 'num wide', format.count), column('Rate', 'rate_per_s', 'num far', format.perSecond),
				column('Ends about', 'ends_at', 'far', (value, job) => (isOver(job) ? format.UNKNOWN : when(value))), column('Deadline', 'deadline', 'far', when),
				column('Action', '', 'act', null, (job) => this.#cancel(job)),
			],
		});
		this.problem = div();
		this.node = div('', this.problem, panel('Jobs', [this.table.search], this.table.node));
	}

	show(isShown) {
		this.isShown = isShown;
		clearTimeout(this.timer);
		if (isShown) this.load();
	}

	async load() {
		clearTimeout(this.timer);
		const { model } = this.app;
		try {
			const { jobs } = document.hidden ? this : await ask('console/jobs', { model });
			if (model !== this.app.model || !jobs) return;
			fill(this.problem);
			this.table.set(jobs);
		} catch (error) {
			failure(this.problem, error);
		} finally {
			if (this.isShown) this.timer = setTimeout(() => this.load(), EVERY_MS);
		}
	}

	#cancel(job) {
		const cancel = async () => {
			const text = [`${format.plural(Math.max(0, job.total - job.done), 'item')} will not run. Results that are there stay.`];
			if (!(await confirm({ title: `Cancel the job ${job.id}?`, text, verb: 'Cancel the job', isDanger: true }))) return;
			await this.app.do(act('console/jobs/cancel', { model: job.model, lane: job.lane, id: job.id }), `The job ${job.id} is being cancelled.`);
			this.load();
		};
		const node = button('Cancel', cancel, 'small');
		node.setAttribute('aria-label', `Cancel the job ${job.id}`);
		return live(node, job, (now) => {
			job = now;
			show(node, this.app.mayAct && !isOver(now));
		});
	}
}

function stateOf(job) {
	const chip = span();
	return live(chip, job, (now) => {
		setText(chip, now.state);
		setClass(chip, `chip ${now.state === 'failed' ? 'bad' : isOver(now) ? '' : 'on'}`);
		chip.title = now.reason ?? '';
	});
}

function progressOf(job) {
	const [shape, text] = [bar(), span()];
	return live(span('meter', shape, text), job, (now) => {
		shape.set(now.done / now.total);
		setText(text, `${format.count(now.done)} of ${format.count(now.total)}`);
	});
}
