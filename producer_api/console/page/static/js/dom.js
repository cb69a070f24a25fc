// Elements, made without markup: every text goes in as a text node, so that no name can become a tag.

const ARIA = { label: ['aria-label'], mute: ['aria-hidden', 'true'] };

/**
 * Makes an element. Attributes that begin with "on" are listeners; null, undefined and false leave one out. `label` is what a
 * screen reader calls it; it passes over what is `mute`.
 */
export function el(name, attributes, ...children) {
	const node = document.createElement(name);
	for (const [key, value] of Object.entries(attributes ?? {})) {
		if (value === null || value === undefined || value === false) continue;
		if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
		else {
			const [name, fixed] = ARIA[key] ?? [key, value === true ? '' : value];
			node.setAttribute(name, fixed ?? value);
		}
	}
	return put(node, ...children);
}

/** Appends nodes and texts. */
export function put(node, ...children) {
	for (const child of children) {
		if (child !== null && child !== undefined && child !== false) node.append(child); // a string becomes a text node
	}
	return node;
}

/** Replaces what an element holds. */
export function fill(node, ...children) {
	node.replaceChildren();
	return put(node, ...children);
}

/** Sets a text if it is another: a page that writes the same every two seconds makes the browser work. */
export function setText(node, text) {
	if (node.textContent !== String(text)) node.textContent = text;
}

/** Sets classes if they are others. */
export function setClass(node, classes) {
	if (node.className !== classes) node.className = classes;
}

export function show(node, isShown) {
	if (node.hidden !== !isShown) node.hidden = !isShown;
}

/** Makes an element that follows its row: `update` is called now, and whenever the row changes. */
export function live(node, row, update) {
	node.update = update;
	update(row);
	return node;
}

export const button = (label, onclick, classes = '') => el('button', { type: 'button', class: classes || null, onclick }, label);
const maker = (name) => (classes, ...children) => el(name, { class: classes || null }, ...children);
export const [span, div, p] = ['span', 'div', 'p'].map(maker);
export const soft = (...children) => p('soft', ...children);
export const dot = () => el('span', { class: 'dot', mute: true });
export const mono = (text) => span('mono', text);

/** A box that filters what stands below it. */
export const filter = (what, oninput) => el('input', { type: 'search', placeholder: 'Filter', label: `Filter ${what}`, oninput });

/** A little horizontal bar; `set` takes a share of 0 to 1. */
export function bar(classes = 'bar') {
	const inner = el('i');
	const node = el('span', { class: classes, mute: true }, inner);
	let last;
	node.set = (share) => {
		const width = `${Math.round(Math.min(1, Math.max(0, share || 0)) * 100)}%`;
		if (width !== last) inner.style.width = last = width;
	};
	return node;
}

/** Fills a place with the sentence of a failure. */
export function failure(place, error) {
	fill(place, el('p', { class: 'notice bad', role: 'alert' }, error.message));
}

let panels = 0;

/** A section with a heading; `tools` stand to the right of it. */
export function panel(title, tools, ...children) {
	panels += 1;
	const heading = el('h2', { id: `panel-${panels}` }, title);
	const node = el('section', { class: 'panel', 'aria-labelledby': heading.id }, el('header', {}, heading, ...tools), ...children);
	node.heading = heading;
	return node;
}
