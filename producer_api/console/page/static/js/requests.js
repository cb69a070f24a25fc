// Find one request by its id: how it stands, and where its time went.
import { div, el, failure, fill, mono, p, panel, put, soft, span } from './dom.js';
import { dayTime, ms, plural } from './format.js';
import { ask } from './api.js';
import { facts, spansOf } from './spans.js';

const TONES = { __proto__: null, answered: 'on', running: 'on', failed: 'bad', dead: 'bad', cancelled: 'warn', unknown: 'warn' };

export class Requests {
	constructor(app) {
		this.app = app;
		this.node = el('div', { role: 'status' });
	}

	show(isShown) {
		const { id } = this.app.place;
		if (isShown && id) this.#find(id);
		else fill(this.node, soft('Type or paste the id of a request into the box at the top. Answers carry it as “id” and in the header X-Request-Id.'));
	}

	async #find(id) {
		fill(this.node, soft('Looking …'));
		try {
			const { found, incomplete } = await ask(`console/requests/${encodeURIComponent(id)}`);
			if (id !== this.app.place.id) return;
			fill(this.node, incomplete && p('notice', incomplete), ...found.map((one) => this.#one(one, id)));
			if (!found.length) put(this.node, panel('Not found', [], div('body', p('', mono(id)), soft('No model knows this id: it was never sent, or it ended so long ago that its traces are gone.'))));
		} catch (error) {
			failure(this.node, error);
		}
	}

	#one(one, id) {
		const batch = one.batch ?? {};
		const rows = batch.rows && plural(batch.rows, 'row') + (batch.of_batch_lane ? ', of a batch lane' : '');
		const chip = span(`chip ${TONES[one.state] ?? ''}`, one.state);
		return panel(one.total_ms ? `${ms(one.total_ms)} in ${one.model}` : one.model, [chip], div('body story', spansOf(one.spans, one.total_ms), facts([
			['Request', mono(one.id ?? id)], ['Lane', one.lane], ['Outcome', one.outcome], ['Came in', dayTime(one.at_ms)], ['Worker', one.worker], ['Attempt', one.attempt],
			['Batch', rows], ['It closed because', batch.reason], ['Batch id', batch.id], ['First token', one.first_token_ms && ms(one.first_token_ms)], ['Front end', one.front_end], ['Trace', one.trace_id],
			...(one.notes ?? []).map((note) => ['Note', note]),
		])));
	}
}
