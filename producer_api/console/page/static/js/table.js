// A table that stays quick with any number of rows: it shows a page of them, and writes only cells that changed.
import { button, div, el, fill, filter, p, put, setText, show, span } from './dom.js';
import { UNKNOWN, count } from './format.js';

/**
 * A column of texts. `field` names a member of the row; what it says is `say(value, row)`. Of `classes`, `num` is set to the
 * right, `wide` and `far` are left out where there is no room. `make(row)` makes a node instead, whose `update` follows the row.
 */
export const column = (label, field, classes = '', say = (value) => value || UNKNOWN, make = null) => ({ label, field, classes, say, make });
const FILTER_FROM = 9;

export class Table {
	/** `id` names the member that tells rows apart; `words` are the members that the filter looks at. */
	constructor({ caption, columns, id = 'id', words = [], size = 20, empty }) {
		Object.assign(this, { columns, id, words, size, emptyText: empty, page: 0, rows: [], kept: new Map(), order: null });
		this.headers = columns.map((one) => this.#header(one));
		this.body = el('tbody');
		this.empty = p('empty');
		const table = el('table', {}, el('caption', { class: 'hidden' }, caption), el('thead', {}, el('tr', {}, ...this.headers)), this.body);
		this.scroll = el('div', { class: 'scroll', role: 'group', label: caption, tabindex: 0 }, table);
		this.search = filter(caption.toLowerCase(), () => this.#turn(-this.page));
		this.count = el('span', { role: 'status' });
		this.before = button('Previous', () => this.#turn(-1), 'small push');
		this.after = button('Next', () => this.#turn(1), 'small');
		this.foot = div('foot', this.count, this.before, this.after);
		this.node = div('', this.scroll, this.empty, this.foot);
	}

	#header(one) {
		const header = el('th', { scope: 'col', class: one.classes || null });
		if (one.field) put(header, button(one.label, () => this.#sort(one, header)));
		else put(header, one.classes === 'act' ? span('hidden', one.label) : one.label);
		return header;
	}

	#sort({ field, classes }, header) {
		const isDown = this.order?.field === field ? !this.order.isDown : classes.includes('num');
		this.order = { field, isDown };
		for (const one of this.headers) one.removeAttribute('aria-sort');
		header.setAttribute('aria-sort', isDown ? 'descending' : 'ascending');
		this.#turn(-this.page);
	}

	#turn(step) {
		this.page += step;
		this.draw();
		if (document.activeElement.disabled) (step > 0 ? this.before : this.after).focus();
	}

	/** Takes new rows. */
	set(rows) {
		this.rows = Array.isArray(rows) ? rows : [];
		show(this.search, this.rows.length >= FILTER_FROM);
		this.draw();
	}

	#chosen() {
		const wanted = this.search.value.trim().toLowerCase();
		const rows = this.rows.filter((row) => !wanted || this.words.some((word) => String(row[word]).toLowerCase().includes(wanted)));
		if (!this.order) return rows;
		const { field, isDown } = this.order;
		return rows.sort((a, b) => (isDown ? -1 : 1) * compare(a[field] ?? -Infinity, b[field] ?? -Infinity));
	}

	draw() {
		const rows = this.#chosen();
		const pages = Math.max(1, Math.ceil(rows.length / this.size));
		this.page = Math.min(Math.max(0, this.page), pages - 1);
		const first = this.page * this.size;
		const kept = new Map();
		for (const row of rows.slice(first, first + this.size)) {
			const line = this.kept.get(row[this.id]) ?? this.#line(row);
			kept.set(row[this.id], line);
			for (const update of line.updates) update(row);
		}
		this.kept = kept;
		arrange(this.body, [...kept.values()].map((line) => line.node));
		show(this.scroll, rows.length);
		show(this.empty, !rows.length);
		setText(this.empty, this.rows.length ? 'Nothing matches the filter.' : this.emptyText);
		show(this.foot, pages > 1);
		setText(this.count, `${count(first + 1)} to ${count(Math.min(rows.length, first + this.size))} of ${count(rows.length)}`);
		this.before.disabled = this.page === 0;
		this.after.disabled = this.page >= pages - 1;
	}

	#line(row) {
		const updates = [];
		const cells = this.columns.map(({ classes, make, field, say }) => {
			const cell = el('td', { class: classes || null });
			if (!make) updates.push((now) => setText(cell, say(now[field], now)));
			else {
				const content = make(row);
				put(cell, content);
				if (content.update) updates.push(content.update);
			}
			return cell;
		});
		return { node: el('tr', {}, ...cells), updates };
	}
}

const compare = (a, b) => (a === b ? 0 : a < b ? -1 : 1);

/** Gives an element these children, and touches it only if they are others. Moving one takes its focus away, so that is given back. */
export function arrange(parent, nodes) {
	const now = parent.children;
	if (now.length === nodes.length && nodes.every((node, i) => node === now[i])) return;
	const focused = document.activeElement;
	fill(parent, ...nodes);
	if (parent.contains(focused)) focused.focus();
}
