// Light, dark, or as the system has it. A classic script: it runs before the first paint, so that nothing flashes.
(() => {
	const ORDER = ['auto', 'light', 'dark'];
	let theme = 'auto';
	try {
		theme = localStorage.getItem('headrace-theme');
	} catch {} // storage may be forbidden; then a choice holds until the page is closed

	const apply = () => {
		if (!ORDER.includes(theme)) theme = 'auto';
		document.documentElement.dataset.theme = theme;
		const button = document.getElementById('theme');
		if (!button) return;
		button.textContent = theme[0].toUpperCase() + theme.slice(1);
		button.setAttribute('aria-label', `Theme: ${theme}. Switch to ${next()}.`);
	};
	const next = () => ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
	const changed = () => dispatchEvent(new Event('themechange'));

	apply();
	addEventListener('DOMContentLoaded', () => {
		apply();
		document.getElementById('theme').addEventListener('click', () => {
			theme = next();
			try {
				localStorage.setItem('headrace-theme', theme);
			} catch {} // as above
			apply();
			changed();
		});
	});
	matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
})();
