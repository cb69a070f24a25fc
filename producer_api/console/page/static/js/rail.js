// The list of models: at the left, or a menu on a narrow screen. Works with 1 and with 50.
import { div, dot, el, fill, filter, put, setClass, setText, show, span } from './dom.js';
import { perSecond } from './format.js';
import { arrange } from './table.js';

/** How a model stands, as a colour: '', warn, bad, off. */
function tone(model) {
	if (model.state === 'failed' || model.state === 'silent') return 'bad';
	if (model.state === 'away') return 'off';
	return model.state === 'ready' && model.serving === 'open' ? '' : 'warn';
}

export class Rail {
	/** `hash` gives the address of a model in the present view. */
	constructor(node, hash) {
		Object.assign(this, { hash, lines: new Map(), models: [] });
		this.search = filter('models', () => this.#draw());
		this.list = el('ul');
		this.select = el('select', { onchange: () => { location.hash = hash(this.select.value); } });
		put(node, div('list', el('h2', {}, 'Models'), this.search, this.list), el('label', { class: 'picker soft' }, 'Model', this.select));
	}

	update(models, chosen) {
		Object.assign(this, { models, chosen });
		this.#draw();
		const names = JSON.stringify(models.map((model) => model.name));
		if (names !== this.names) fill(this.select, ...models.map((model) => el('option', {}, model.name)));
		this.names = names;
		if (this.select.value !== chosen) this.select.value = chosen;
	}

	#draw() {
		const wanted = this.search.value.trim().toLowerCase();
		show(this.search, this.models.length > 8);
		arrange(this.list, this.models.filter((model) => model.name.toLowerCase().includes(wanted)).map((model) => {
			const line = this.lines.get(model.name) ?? this.#line(model.name);
			const state = tone(model);
			setClass(line.mark, `dot ${state}`);
			setText(line.rate, model.rate ? perSecond(model.rate) : '');
			setText(line.state, state ? `, ${model.state}` : '');
			line.link.href = this.hash(model.name);
			line.link.toggleAttribute('aria-current', model.name === this.chosen);
			return line.node;
		}));
	}

	#line(name) {
		const [mark, rate, state] = [dot(), span(), span('hidden')];
		const link = el('a', { title: name }, mark, span('', name, state), rate);
		const line = { node: el('li', {}, link), link, mark, rate, state };
		this.lines.set(name, line);
		return line;
	}
}
