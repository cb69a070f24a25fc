// Try it: send a photo, a text or a document to the model, see the answer and where its time went.
import { bar, button, div, el, failure, fill, p, panel, put, setText, show, soft, span } from './dom.js';
import * as format from './format.js';
import { ask, send } from './api.js';
import { facts, spansOf } from './spans.js';

const JSON_TYPE = 'application/json';
const SHOWN_CHARACTERS = 20000;
const SHOWN_GUESSES = 10;
const isPicture = (type) => Boolean(type?.startsWith('image/'));
const pathOf = (model) => `v1/models/${encodeURIComponent(model)}`;

export class TryIt {
	constructor(app) {
		this.app = app;
		this.picture = el('img', { alt: 'What is sent', hidden: true });
		this.hint = p();
		this.file = el('input', { type: 'file', class: 'hidden', tabindex: -1, label: 'File to send', onchange: () => this.#take(this.file.files[0]) });
		this.pick = button('', () => this.file.click());
		const over = (isOver) => (event) => {
			event.preventDefault();
			this.drop.classList.toggle('over', isOver);
			if (event.type === 'drop') this.#take(event.dataTransfer.files[0]);
		};
		this.drop = el('div', { class: 'drop', ondragover: over(true), ondragleave: over(false), ondrop: over(false) }, this.picture, this.hint, this.file, this.pick);
		this.text = el('textarea', { rows: 9, spellcheck: 'false', label: 'What is sent', oninput: () => { this.body = null; } });
		this.type = el('select', { label: 'Content type', onchange: () => this.#mode() });
		this.example = button('Use the example', () => this.#example());
		this.go = button('Send', () => this.#send(), 'main push');
		this.answer = el('div', { class: 'body', role: 'status' });
		const input = div('body', this.drop, this.text, div('row', this.type, this.example, this.go));
		this.node = div('two', panel('Send to the model', [], input), panel('Answer', [], this.answer));
		document.addEventListener('paste', (event) => {
			const file = event.clipboardData?.files[0];
			if (!this.isShown || !file) return;
			event.preventDefault();
			this.#take(file);
		});
	}

	async show(isShown) {
		this.isShown = isShown;
		const { model } = this.app;
		if (!isShown || !model || this.model === model) return;
		this.model = model;
		this.body = null;
		this.text.value = '';
		show(this.picture, false);
		fill(this.answer, soft('The answer comes here, with a bar of where its time went.'));
		try {
			const card = await ask(pathOf(model));
			if (model === this.model) this.#card(card);
		} catch (error) {
			this.model = '';
			failure(this.answer, error);
		}
	}

	#card({ content_types: types = [], example }) {
		this.card = { example };
		fill(this.type, ...[...types.filter((type) => type !== JSON_TYPE), JSON_TYPE].map((type) => el('option', {}, type)));
		show(this.example, Boolean(example));
		this.#mode();
		if (example && !isPicture(this.type.value)) this.#example();
	}

	#choose(type) {
		if (type && ![...this.type.options].some((option) => option.value === type)) return;
		this.type.value = type;
		this.#mode();
	}

	/** Pictures and bytes come as a file, texts and JSON are typed. */
	#mode() {
		const type = this.type.value;
		const isTyped = type === JSON_TYPE || type.startsWith('text/');
		const what = isPicture(type) ? 'photo' : 'file';
		show(this.text, isTyped);
		show(this.drop, !isTyped);
		setText(this.hint, `Paste a ${what}, drop one here, or`);
		setText(this.pick, `Choose a ${what}`);
	}

	#example() {
		const { content_type: type, body, is_base64: isBytes } = this.card.example;
		if (isBytes) return this.#take(new Blob([Uint8Array.from(atob(body), (c) => c.charCodeAt(0))], { type }));
		this.#choose(type);
		this.body = null;
		this.text.value = body;
	}

	#take(file) {
		if (!file) return;
		this.#choose(file.type);
		this.body = file;
		show(this.picture, isPicture(file.type));
		if (isPicture(file.type)) {
			URL.revokeObjectURL(this.picture.src);
			this.picture.src = URL.createObjectURL(file);
			this.#send();
		}
		setText(this.hint, `${file.name ?? 'Example'}, ${format.bytes(file.size)}`);
		setText(this.pick, 'Choose another');
	}

	async #send() {
		const body = this.body ?? (this.text.hidden ? null : this.text.value);
		if (body === null) return this.file.click();
		const before_ms = performance.now();
		this.go.disabled = true;
		fill(this.answer, soft('Asking …'));
		try {
			const headers = { 'Content-Type': this.type.value, 'Headrace-Explain': '1' };
			const response = await send(`${pathOf(this.model)}/predict`, { method: 'POST', headers, body });
			this.#show(await response.json(), performance.now() - before_ms);
		} catch (error) {
			failure(this.answer, error);
		}
		this.go.disabled = false;
	}

	#show({ timing = {}, predictions, ...rest }, seen_ms) {
		const link = rest.id && el('a', { class: 'mono', href: this.app.hash('requests', { id: rest.id }) }, rest.id);
		const { queue_ms, batch_wait_ms, inference_ms, total_ms } = timing;
		const spans = timing.spans ?? [{ name: 'queue', ms: queue_ms }, { name: 'company', ms: batch_wait_ms }, { name: 'run', ms: inference_ms }];
		const isGuess = Array.isArray(predictions) && predictions.every((one) => Number.isFinite(one?.score));
		fill(
			this.answer, isGuess ? guesses(predictions) : asJson({ ...rest, predictions }),
			el('h3', {}, `${format.ms(total_ms ?? seen_ms)}, and where it went`), spansOf(spans, total_ms),
			facts([['Request', link], ['Worker', timing.worker], ['Batch', timing.batch_size && format.plural(timing.batch_size, 'row')], ['It closed because', timing.closed], ['Attempt', timing.attempt], ['Note', timing.note], ['Seen by this page', format.ms(seen_ms)]]),
		);
	}
}

function asJson(answer) {
	const text = JSON.stringify(answer, null, 2);
	const rest = text.length - SHOWN_CHARACTERS;
	return el('pre', { class: 'answer', tabindex: 0, role: 'region', label: 'Answer as JSON' }, rest > 0 ? `${text.slice(0, SHOWN_CHARACTERS)}\n… ${format.count(rest)} more characters` : text);
}

function guesses(predictions) {
	const most = Math.max(...predictions.map((one) => Math.abs(one.score)));
	return put(el('ol', { class: 'guesses' }), ...predictions.slice(0, SHOWN_GUESSES).map(({ label, index, score }) => {
		const shape = bar();
		shape.set(score / most);
		return el('li', {}, span('', label ?? `class ${index}`), span('soft', format.number(score)), shape);
	}));
}
