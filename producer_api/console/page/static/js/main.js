// The console: what is shown, of which model, and where the figures come from.
import { button, div, el, fill, p, put, setClass, setText, show, span } from './dom.js';
import * as format from './format.js';
import { ask, key, query } from './api.js';
import { askForKey } from './dialog.js';
import { DeadLetters } from './dead.js';
import { Feed } from './feed.js';
import { Health } from './health.js';
import { Jobs } from './jobs.js';
import { Overview } from './overview.js';
import { Rail } from './rail.js';
import { Requests } from './requests.js';
import { TryIt } from './tryit.js';

const VIEWS = { __proto__: null, overview: ['Overview', Overview], try: ['Try it', TryIt], requests: ['Requests', Requests], dead: ['Dead letters', DeadLetters], jobs: ['Jobs', Jobs] };
const SAID_MS = 8000;
const AGAIN_MS = 2000;
const at = (id) => document.getElementById(id);

class App {
	constructor() {
		Object.assign(this, { doc: null, session: null, away: null, views: {}, place: {} });
		this.health = new Health(at('health'));
		this.rail = new Rail(at('rail'), (model) => this.hash(this.place.view, { model }));
		this.feed = new Feed((doc) => this.#state(doc), (away) => this.#away(away));
		[this.title, this.about] = [el('h2'), span('soft')];
		this.readOnly = el('p', { class: 'notice', hidden: true });
		this.said = el('div', { role: 'status' });
		this.body = div('view-body');
		this.dead = el('span', { class: 'count warn', hidden: true });
		this.tabs = Object.entries(VIEWS).map(([name, [label]]) => [name, el('a', {}, label, name === 'dead' && this.dead)]);
		put(at('view'), div('title', this.title, this.about), el('nav', { class: 'tabs', label: 'Parts' }, ...this.tabs.map(([, tab]) => tab)), this.readOnly, this.said, this.body);
		addEventListener('hashchange', () => this.#go());
		addEventListener('needkey', () => this.#askKey(key.get() ? 'The server does not accept this key.' : ''));
		at('forget').addEventListener('click', () => {
			key.set('');
			location.reload();
		});
		setInterval(() => this.away && this.#awayText(), 1000);
		this.#finder();
	}

	get model() {
		return this.place.model ?? '';
	}

	get mayAct() {
		return this.session?.role === 'operate';
	}

	/** The address of a view, of the present model if `parameters` names no other. */
	hash(view, parameters = {}) {
		return `#/${view}${query({ model: this.model, ...parameters })}`;
	}

	/** Carries an action out, and says for a while how it went. */
	async do(action, success) {
		let [said, classes] = [success, 'notice'];
		await action.catch((error) => {
			[said, classes] = [error.message, 'notice bad'];
		});
		clearTimeout(this.sayTimer);
		fill(this.said, el('p', { class: classes }, said));
		this.sayTimer = setTimeout(() => fill(this.said), SAID_MS);
	}

	/** Learns what this page may do, and begins. */
	async start() {
		if (!(await this.#session())) return;
		this.#mark(null);
		const { role } = this.session;
		show(at('forget'), key.get());
		if (role !== 'none') return this.#go();
		this.health.away('The console is not open to you.');
		setText(at('link-text'), 'No access');
	}

	async #session() {
		try {
			this.session = await ask('console/session');
		} catch (error) {
			if (error.status === 401) return false; // the dialog is open
			if (error.status !== 403) {
				const now_ms = performance.now();
				this.#away({ error, since_ms: this.away?.since_ms ?? now_ms, again_ms: now_ms + AGAIN_MS });
				setTimeout(() => this.start(), AGAIN_MS);
				return false;
			}
			this.session = { role: 'none', read_only_why: error.message };
		}
		const { role, read_only_why: why } = this.session;
		show(this.readOnly, role !== 'operate');
		setText(this.readOnly, `${role === 'read' ? 'You may look, and change nothing. ' : ''}${why ?? ''}`);
		return true;
	}

	/** Goes where the address says. */
	#go() {
		if (!this.session || this.session.role === 'none') return;
		const [view, parameters] = location.hash.replace(/^#\/?/, '').split('?');
		const { place } = this;
		const given = Object.fromEntries(new URLSearchParams(parameters));
		this.place = { ...given, view: VIEWS[view] ? view : 'overview', model: given.model || place.model };
		if (this.place.model !== place.model || this.away || !this.doc) this.feed.follow(this.model);
		this.#show(place.view);
		this.#paint();
	}

	#show(before) {
		const { view } = this.place;
		for (const [name, tab] of this.tabs) {
			tab.href = this.hash(name);
			tab.toggleAttribute('aria-current', name === view);
		}
		const [label, View] = VIEWS[view];
		document.title = `${label} · Headrace console`;
		this.views[view] ??= new View(this);
		if (view !== before) {
			this.views[before]?.show(false);
			fill(this.body, this.views[view].node);
		}
		this.views[view].show(true);
	}

	#state(doc) {
		this.doc = doc;
		if (this.model || !doc.models.length) return this.#paint();
		const busiest = doc.models.reduce((a, b) => (b.rate > a.rate ? b : a));
		location.replace(this.hash(this.place.view, { ...this.place, view: null, model: busiest.name }));
	}

	#paint() {
		const { doc } = this;
		if (!doc || this.away) return;
		this.rail.update(doc.models, this.model);
		this.health.update(doc);
		setClass(at('link'), 'link');
		setText(at('link-text'), 'Live');
		const model = doc.models.find((one) => one.name === this.model);
		setText(this.title, this.model || 'No model has been served yet');
		setText(this.about, model ? [model.version && `version ${model.version}`, model.state].filter(Boolean).join(' · ') : this.model && 'Nothing is known of this model.');
		show(this.dead, model?.dead);
		setText(this.dead, format.count(model?.dead));
		if (doc.model?.name === this.model) this.views[this.place.view]?.update?.(doc);
	}

	#mark(away) {
		this.away = away;
		document.body.classList.toggle('stale', Boolean(away));
	}

	async #away(away) {
		this.#mark(away);
		if (away) this.#awayText();
		else if (await this.#session()) this.views.overview?.charts.load(); // rights may have changed, and the past has a hole
	}

	#awayText() {
		const { error, since_ms, again_ms } = this.away;
		const now_ms = performance.now();
		const why = error?.status ? error.message : 'The server does not answer.';
		this.health.away(this.doc ? `${why} The figures are from ${format.time(this.doc.at_ms)}.` : why);
		setClass(at('link'), 'link bad');
		const left_s = Math.ceil((again_ms - now_ms) / 1000);
		setText(at('link-text'), `Away for ${format.seconds(Math.round((now_ms - since_ms) / 1000))}${left_s > 0 ? `, again in ${left_s} s` : ''}`);
	}

	async #askKey(why) {
		if (this.isAsking) return;
		this.isAsking = true;
		this.feed.stop();
		this.health.away('An API key is needed.');
		setText(at('link-text'), 'No key');
		const value = await askForKey(why);
		this.isAsking = false;
		const enter = () => {
			fill(this.said);
			this.#askKey('');
		};
		if (!value) return fill(this.said, p('notice', 'This server shows its console to holders of an API key. ', button('Enter a key', enter, 'small')));
		key.set(value);
		this.doc = null;
		this.start();
	}

	#finder() {
		at('find').addEventListener('submit', (event) => {
			event.preventDefault();
			const id = at('find-id').value.trim();
			if (id) location.hash = this.hash('requests', { id });
		});
		addEventListener('keydown', (event) => {
			const isElsewhere = event.ctrlKey || event.metaKey || event.altKey || /^(input|textarea|select)$/i.test(event.target.tagName);
			if (event.key !== '/' || isElsewhere) return;
			event.preventDefault();
			at('find-id').focus();
		});
	}
}

new App().start();
