// The stream of states: read with fetch, since an EventSource can send no API key. Comes back by itself.
import { lines, query, send } from './api.js';

const SILENT_MS = 20000; // the server writes something every few seconds, so a silent connection is a dead one
const WAITS_MS = [500, 1000, 2000, 4000, 8000, 15000];
const UNSEEN_MS = 60000; // a tab that nobody looks at costs the server nothing

export class Feed {
	/** `onstate` gets each document; `onaway` why, since when and until when there is no connection, and null once there is. */
	constructor(onstate, onaway) {
		Object.assign(this, { onstate, onaway, run: 0, tries: 0, away: null });
		document.addEventListener('visibilitychange', () => this.#seen());
		addEventListener('online', () => this.away && this.start());
	}

	follow(model) {
		this.model = model;
		this.tries = 0;
		this.start();
	}

	stop() {
		this.run += 1;
		clearTimeout(this.timer);
		clearTimeout(this.watch);
		this.abort?.abort();
	}

	/** Connects, whatever was before. */
	async start() {
		this.stop();
		const { run } = this;
		this.abort = new AbortController();
		let problem = null;
		try {
			this.#heard();
			const response = await send(`console/events${query({ model: this.model })}`, { headers: { Accept: 'text/event-stream' }, signal: this.abort.signal });
			await this.#read(response.body, run);
		} catch (error) {
			problem = error;
		}
		if (run === this.run) this.#again(problem);
	}

	/** https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation */
	async #read(stream, run) {
		let data = '';
		for await (const line of lines(stream)) {
			if (run !== this.run) return;
			this.#heard();
			if (line.startsWith('data:')) data += line.slice(5);
			else if (line === '' && data) {
				const state = JSON.parse(data);
				data = '';
				this.tries = 0;
				if (this.away) this.onaway((this.away = null));
				this.onstate(state);
			}
		}
	}

	#heard() {
		clearTimeout(this.watch);
		this.watch = setTimeout(() => this.abort.abort(), SILENT_MS);
	}

	#again(error) {
		clearTimeout(this.watch);
		if (error?.status === 404) this.model = ''; // it is gone, or the address is wrong
		const isFinal = error?.status === 401 || error?.status === 403;
		// Many pages must not all come back at once.
		const wait_ms = WAITS_MS[Math.min(this.tries, WAITS_MS.length - 1)] * (0.8 + 0.4 * Math.random());
		const now_ms = performance.now();
		this.tries += 1;
		this.away = { error, since_ms: this.away?.since_ms ?? now_ms, again_ms: isFinal ? 0 : now_ms + wait_ms };
		this.onaway(this.away);
		if (!isFinal) this.timer = setTimeout(() => this.start(), wait_ms);
	}

	#seen() {
		clearTimeout(this.unseen);
		if (document.hidden) {
			this.unseen = setTimeout(() => {
				this.isAsleep = true;
				this.stop();
			}, UNSEEN_MS);
		} else if (this.isAsleep || this.away?.again_ms) {
			this.isAsleep = false;
			this.start();
		}
	}
}
