// Where the time of one request went: a bar, and the same as a table. Waiting is grey, work has the accent colour.
import { div, el, p } from './dom.js';
import { ms, share } from './format.js';

const NAMES = {
	__proto__: null, // a span may have any name
	admission: ['Admission', '2', 'checked, and put into the queue'],
	queue: ['Queue', 'wait', 'waited until a worker took it'],
	company: ['Company', 'wait', 'waited for others to share its batch'],
	decode: ['Decode', '1', 'made ready for the model'],
	run: ['Run', '0', 'the model computed'],
	commit: ['Commit', '1', 'the answer was stored'],
	way_back: ['Way back', '2', 'the answer went to the client'],
};
const REST = 0.005; // a share that is worth a line

/** The bar and its table. `spans`: [{name, ms}]; `total_ms` may be more than their sum. */
export function spansOf(spans, total_ms) {
	const parts = (spans ?? []).filter((span) => span.ms > 0);
	const sum = parts.reduce((all, span) => all + span.ms, 0);
	const total = Math.max(sum, total_ms || 0);
	if (!total) return p('soft', 'Nothing is known of where its time went.');
	if (total - sum > total * REST) parts.push({ name: 'Between them', ms: total - sum });
	const bar = el('div', { class: 'spans', mute: true });
	const rows = parts.map((span) => {
		const [label, tone, what] = NAMES[span.name] ?? [span.name, 'wait', ''];
		const part = el('i', { class: `tone-${tone}`, title: `${label}: ${ms(span.ms)}` });
		part.style.flexGrow = span.ms / total;
		bar.append(part);
		return el('tr', {}, el('td', {}, el('i', { class: `tone-${tone}`, mute: true }), label), el('td', { class: 'num' }, ms(span.ms)),
			el('td', { class: 'num soft' }, share(span.ms / total)), el('td', { class: 'soft wide' }, what));
	});
	const head = el('tr', {}, ...['Part', 'Time', 'Share', 'What it is'].map((name) => el('th', { scope: 'col' }, name)));
	return div('', bar, el('table', { class: 'legend' }, el('caption', { class: 'hidden' }, `Where ${ms(total)} went`), el('thead', { class: 'hidden' }, head), el('tbody', {}, ...rows)));
}

/** Pairs of a word and a figure; those without a figure are left out. */
export function facts(pairs) {
	const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '');
	return el('dl', { class: 'facts' }, ...known.flatMap(([word, value]) => [el('dt', {}, word), el('dd', {}, value)]));
}
