// The sentence at the top: is the queue healthy, if not why, and what to do.
import { dot, el, fill, p, put, setClass, setText, span } from './dom.js';
import { perSecond, plural, time } from './format.js';

const known = (level) => (['ok', 'warn', 'bad'].includes(level) ? level : 'warn');

export class Health {
	constructor(node) {
		this.words = span();
		this.line = el('p', { class: 'line off', role: 'status', 'aria-live': 'polite' }, dot(), this.words);
		this.under = p('under');
		this.reasons = el('ul', { class: 'reasons' });
		// Only the sentence is read out: figures that change every two seconds would never be silent.
		put(node, this.line, this.under, this.reasons);
		this.away('Looking …');
	}

	update({ health, models, at_ms }) {
		const reasons = health?.reasons ?? [];
		const level = known(health?.level);
		setClass(this.line, `line ${level}`);
		setText(this.words, sentence(level, reasons.length));
		const sum = (member) => models.reduce((all, model) => all + (model[member] || 0), 0);
		setText(this.under, `${plural(models.length, 'model')} on ${plural(sum('workers'), 'worker')}, ${perSecond(sum('rate'))} together · ${time(at_ms)}`);
		const said = JSON.stringify(reasons);
		if (said === this.said) return;
		this.said = said;
		fill(this.reasons, ...reasons.map((one) => el('li', { class: known(one.level) }, dot(), el('strong', {}, one.what), one.do && span('do', ...coded(one.do)))));
	}

	/** Without a connection the last figures stay, greyed, and the sentence says so. */
	away(text) {
		setClass(this.line, 'line off');
		setText(this.words, text);
	}
}

function sentence(level, n) {
	if (level === 'ok') return 'Your queue is healthy.';
	const things = n === 1 ? 'one thing' : `${n} things`;
	return level === 'bad' ? `Not healthy: ${things} to mend.` : `It works, but look at ${things}.`;
}

/** What stands between backticks is a command. */
const coded = (text) => text.split('`').map((part, i) => (i % 2 ? el('code', {}, part) : part));
