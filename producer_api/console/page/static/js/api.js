// What the page asks the server. The API key, where one is needed, is kept for this tab alone and sent as a header.

const NAME = 'headrace-key';
let storage = null;
let held = null;
try {
	storage = sessionStorage;
	held = storage.getItem(NAME);
} catch {} // it may be forbidden; then a key lives as long as the page

/** The API key of this tab; empty or null for none. */
export const key = {
	get: () => held,
	set(value) {
		held = value;
		storage?.setItem(NAME, value);
	},
};

const refused = (status, message) => Object.assign(new Error(message), { status });

/** Sends a request and returns the response if it is 2xx; else the error is in the server's words, with status 0 when there was no answer. */
export async function send(path, { headers, ...options } = {}) {
	const all = { Accept: 'application/json', ...headers };
	if (key.get()) all.Authorization = `Bearer ${key.get()}`;
	let response;
	try {
		response = await fetch(path, { ...options, headers: all, credentials: 'omit', cache: 'no-store', redirect: 'error' });
	} catch (error) {
		throw error.name === 'AbortError' ? error : refused(0, 'The server does not answer.');
	}
	if (response.ok) return response;
	if (response.status === 401) dispatchEvent(new Event('needkey'));
	const body = await response.json().catch(() => null); // a proxy's page, say: then the status must do
	throw refused(response.status, String(body?.error?.message ?? `The server answered ${response.status}.`));
}

/** The query for parameters that have a value. */
export function query(parameters) {
	const pairs = Object.entries(parameters).filter(([, value]) => value !== '' && value !== null && value !== undefined);
	return pairs.length ? `?${new URLSearchParams(pairs)}` : '';
}

export const ask = async (path, parameters = {}) => (await send(path + query(parameters))).json();

const action = (what) => ({ method: 'POST', headers: { 'Content-Type': 'application/json', 'Headrace-Console': '1' }, body: JSON.stringify(what) });

/** Carries an action out that answers at once. */
export const act = (path, what) => send(path, action(what));

/** Carries an action out in one or several requests, which tell of their progress, a JSON document a line. `signal` stops it. */
export async function* progress(path, bodies, total, signal) {
	const all = { total, done: 0, failed: 0 };
	for (const what of bodies) {
		const { done, failed } = all;
		all.ended = false;
		const response = await send(path, { ...action(what), signal });
		for await (const line of lines(response.body)) {
			const step = JSON.parse(line);
			Object.assign(all, step, { done: done + step.done, failed: failed + (step.failed ?? 0), total: Math.max(total, step.total ?? 0) });
			yield all;
		}
		if (!all.ended || all.why) return;
	}
}

/** The lines of a stream of bytes, without their ends. */
export async function* lines(stream) {
	const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
	let rest = '';
	try {
		for (;;) {
			const { done, value } = await reader.read();
			if (done) break;
			const parts = (rest + value).split(/\r?\n/);
			rest = parts.pop();
			yield* parts;
		}
		if (rest) yield rest;
	} finally {
		reader.cancel().catch(() => {});
	}
}
