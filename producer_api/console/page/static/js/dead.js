// Dead letters: look at them, requeue them, drop them; some, or all that match.
import { button, div, el, failure, fill, filter, live, panel, setText, show, span } from './dom.js';
import * as format from './format.js';
import { ask, progress } from './api.js';
import { confirm, follow } from './dialog.js';
import { Table, column } from './table.js';

const AT_ONCE = 100;
const MOST_IDS = 1000;
const TYPED_FROM = 20; // a drop of so many wants the number typed
const WAIT_MS = 300;

export class DeadLetters {
	constructor(app) {
		Object.assign(this, { app, letters: [], picked: new Map(), all: false });
		this.match = filter('dead letters', () => {
			clearTimeout(this.timer);
			this.timer = setTimeout(() => this.load(), WAIT_MS);
		});
		this.lane = el('select', { label: 'Lane', onchange: () => this.load() });
		this.every = el('input', { type: 'checkbox', label: 'Select all that are shown', onchange: () => this.#pick(this.every.checked ? this.letters : []) });
		this.table = new Table({
			caption: 'Dead letters', id: 'key', size: 50, empty: '',
			columns: [
				column('', '', '', null, (letter) => this.#box(letter)), column('Given up', '', '', null, (letter) => span('', format.dayTime(letter.at_ms))),
				column('Request', '', 'wide', null, ({ request_id: id }) => el('a', { class: 'mono', href: this.app.hash('requests', { id }) }, id)), column('Lane', 'lane', 'wide'),
				column('Reason', 'reason', 'name'), column('Attempts', 'attempts', 'num far', format.count), column('Size', 'bytes', 'num far', format.bytes), column('Type', 'content_type', 'far'),
			],
		});
		this.table.headers[0].replaceChildren(this.every);
		this.chosen = el('span', { role: 'status' });
		this.selectAll = button('', () => {
			this.all = true;
			this.#marks();
		}, 'small');
		this.requeue = button('Requeue', () => this.#act('requeue'), 'small push');
		this.drop = button('Drop', () => this.#act('drop'), 'small danger');
		this.actions = div('foot', this.chosen, this.selectAll, this.requeue, this.drop);
		this.more = div('foot', button('Load more', () => this.load(this.next), 'small'));
		this.problem = div();
		this.panel = panel('Dead letters', [this.lane, this.match, button('Reload', () => this.load(), 'small')], this.actions, this.table.node, this.more);
		this.node = div('', this.problem, this.panel);
	}

	#box(letter) {
		const box = el('input', { type: 'checkbox', label: `Select ${letter.request_id}`, onchange: () => {
			const others = [...this.picked.values()].filter(({ key }) => key !== letter.key);
			this.#pick(box.checked ? [...others, letter] : others);
		} });
		return live(box, letter, () => {
			box.checked = this.all || this.picked.has(letter.key);
		});
	}

	#pick(letters) {
		this.all = false;
		this.picked = new Map(letters.map((letter) => [letter.key, letter]));
		this.#marks();
	}

	show(isShown) {
		if (!isShown || !this.app.model) return;
		const { lane = '' } = this.app.place;
		const names = new Set([...(this.app.doc?.model?.lanes ?? []).map((one) => one.name), lane]);
		names.delete('');
		fill(this.lane, el('option', { value: '' }, 'All lanes'), ...[...names].map((name) => el('option', {}, name)));
		this.lane.value = lane;
		this.load();
	}

	/** Loads from the beginning, or what follows `after`. */
	async load(after = null) {
		const asked = (this.asked = { model: this.app.model, lane: this.lane.value, match: this.match.value.trim() });
		try {
			const found = await ask('console/dead', { ...asked, after, limit: AT_ONCE });
			if (asked !== this.asked) return;
			fill(this.problem);
			this.#take(found, after);
		} catch (error) {
			if (asked === this.asked) failure(this.problem, error);
		}
	}

	/** Letters come newest first; their ids are those of their lanes. */
	#take({ letters, next, total, matching, matching_is_exact: isExact }, after) {
		if (!after) Object.assign(this, { letters: [], upTo: letters[0]?.id, all: false, picked: new Map() });
		this.letters = [...this.letters, ...letters.map((letter) => ({ ...letter, key: `${letter.lane} ${letter.id}` }))];
		Object.assign(this, { next, isExact, matching: after && !isExact ? this.matching : matching });
		setText(this.panel.heading, `Dead letters · ${format.count(total)}`);
		this.table.emptyText = total ? 'Nothing matches the filter.' : 'No dead letters.';
		show(this.more, next);
		show(this.actions, this.letters.length);
		this.table.set(this.letters);
		this.#marks();
	}

	get #number() {
		return this.all ? this.matching : this.picked.size;
	}

	#say(n) {
		return `${n === this.matching && !this.isExact ? 'at least ' : ''}${format.count(n)}`;
	}

	#marks() {
		this.table.draw();
		const n = this.#number;
		const areAll = this.picked.size === this.letters.length;
		this.every.checked = this.all || areAll;
		this.every.indeterminate = !this.every.checked && n > 0;
		setText(this.chosen, n ? `${this.#say(n)} selected` : 'Select what to requeue or to drop.');
		show(this.selectAll, areAll && !this.all && (this.matching > n || !this.isExact));
		setText(this.selectAll, `Select all ${this.#say(this.matching)} that match`);
		for (const one of [this.requeue, this.drop]) {
			show(one, this.app.mayAct);
			one.disabled = !n;
		}
	}

	async #act(verb) {
		const isDrop = verb === 'drop';
		const { model, lane, match } = this.asked;
		const n = this.#number;
		const what = `${this.#say(n)} dead letter${n === 1 ? '' : 's'}`;
		const name = `${isDrop ? 'Drop' : 'Requeue'} ${this.#say(n)}`;
		const place = `${lane ? `lane ${lane}` : 'all lanes'} of the model ${model}`;
		const isSure = await confirm({
			title: `${isDrop ? 'Drop' : 'Requeue'} ${what}?`, verb: name, isDanger: isDrop, typed: isDrop && n >= TYPED_FROM ? n : null,
			text: [
				`From ${place}${this.all ? `${match ? `, all that match “${match}”` : ''}. What comes in from now on is not touched` : ''}.`,
				this.all && !this.isExact ? 'Not all letters were looked at: more may match, and it is done to them, too.' : '',
				isDrop ? 'They are deleted for good: nobody can answer them any more.' : 'They go back into their lanes and run again, with a new deadline.',
			],
		});
		if (!isSure) return;
		const abort = new AbortController();
		const bodies = this.all ? [{ lane, match, all: true, up_to: this.upTo }] : byLanes([...this.picked.values()]);
		const steps = progress(`console/dead/${verb}`, bodies.map((body) => ({ model, ...body })), n, abort.signal);
		await follow(`${isDrop ? 'Dropping' : 'Requeueing'} ${what}`, steps, abort);
		this.load();
	}
}

/** What the server takes at once: so many ids, of one lane. */
function byLanes(letters) {
	const bodies = [];
	for (const { lane, id } of letters) {
		const open = bodies.findLast((body) => body.lane === lane && body.ids.length < MOST_IDS);
		if (open) open.ids.push(id);
		else bodies.push({ lane, ids: [id] });
	}
	return bodies;
}
