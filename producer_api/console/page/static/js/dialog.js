// Dialogs. The browser's own <dialog> keeps the focus inside; it gives it back when it closes.
import { bar, button, div, el, p, put, setText } from './dom.js';
import { count } from './format.js';

/** Opens one; the promise is kept when it is closed. */
function open(node, title, ...children) {
	const before = document.activeElement;
	put(node, el('h2', { id: 'dialog-title' }, title), ...children);
	document.body.append(node);
	node.showModal();
	return new Promise((resolve) => {
		node.addEventListener('close', () => {
			node.remove();
			if (before?.isConnected) before.focus();
			resolve();
		});
	});
}

const dialog = () => el('dialog', { 'aria-labelledby': 'dialog-title' });

function form(node, onsubmit, ...children) {
	return el('form', { onsubmit: (event) => {
		event.preventDefault();
		if (onsubmit() !== false) node.close();
	} }, ...children);
}

/** Asks whether something is to be done; `typed` is a number that must be typed before, null for none. */
export async function confirm({ title, text, verb, isDanger = false, typed = null }) {
	let answer = false;
	const node = dialog();
	const yes = el('button', { class: isDanger ? 'main danger' : 'main', disabled: typed !== null }, verb);
	const input = typed !== null && el('input', { type: 'text', inputmode: 'numeric', autocomplete: 'off', oninput: () => {
		yes.disabled = input.value.replace(/[\s,.]/g, '') !== String(typed);
	} });
	await open(node, title, form(
		node, () => (answer = !yes.disabled),
		...text.map((sentence) => sentence && p('', sentence)), input && el('label', { class: 'field' }, `Type ${typed} to go on`, input),
		div('row', button('Cancel', () => node.close()), yes),
	));
	return answer;
}

/** Asks for the API key; null when there is none. `why` says what was wrong with the last one. */
export async function askForKey(why) {
	let value = null;
	const node = dialog();
	const input = el('input', { type: 'password', autocomplete: 'off', spellcheck: 'false', required: true });
	await open(node, 'This server asks for an API key', form(
		node, () => (value = input.value.trim() || null) !== null,
		p('', 'It stays in this tab until you close it, and is sent to this server only, as a header.'),
		why && el('p', { class: 'wrong', role: 'alert' }, why), el('label', { class: 'field' }, 'API key', input),
		div('row', button('Not now', () => node.close()), el('button', { class: 'main' }, 'Go on')),
	));
	return value;
}

/** Shows the progress of a long action: `steps` yields {done, total, failed, why}, and `ended` at last. */
export async function follow(title, steps, abort) {
	const node = dialog();
	const shape = bar('bar wide');
	const said = el('p', { role: 'status' }, 'Beginning …');
	let isOver = false;
	const stop = button('Stop', () => (isOver ? node.close() : abort.abort()), 'main');
	node.addEventListener('cancel', (event) => isOver || event.preventDefault()); // Escape stops nothing by accident
	const closed = open(node, title, said, shape, div('row', stop));
	let last = { done: 0 };
	try {
		for await (const step of steps) {
			last = step;
			shape.set(step.done / step.total);
			setText(said, `${count(step.done)} of ${count(step.total)}${step.waits_for_room ? '; waits for room in the lane' : ''}`);
		}
		setText(said, last.ended ? ending(last) : `The connection ended after ${count(last.done)}.`);
	} catch (error) {
		setText(said, error.name === 'AbortError' ? `Stopped after about ${count(last.done)}; what was done stays done.` : error.message);
	}
	isOver = true;
	setText(stop, 'Close');
	await closed;
}

const ending = ({ done, failed, why }) => [`Done: ${count(done)}.`, failed ? `${count(failed)} could not be.` : '', why].filter(Boolean).join(' ');
