/* The Checks page: shows the progress of a run, and then its results, without a reload.
   Without scripts, the page has a link to reload it. */
(function () {
	'use strict';

	var PAUSE = 400, LONG_PAUSE = 3000;
	var timer = 0;
	var page = document.getElementById('stability-checks'), noAnswer = document.getElementById('stability-no-answer');

	function say(text) {
		noAnswer.textContent = text;
		noAnswer.hidden = !text;
	}

	/* A part is not replaced while the user types in it or has text in it selected. */
	function isInUse(part) {
		var selection = window.getSelection(), focus = document.activeElement;
		return (!selection.isCollapsed && part.contains(selection.anchorNode))
			|| (part.contains(focus) && focus.matches('input'))
			|| Array.from(part.querySelectorAll('input[name=reason]')).some(function (each) { return each.value; });
	}

	/* A selector that finds the element with the focus again after a part was replaced. */
	function focused(part) {
		var focus = document.activeElement;
		if (part.contains(focus) && focus.matches('details[data-key] > summary')) {
			return 'details[data-key="' + CSS.escape(focus.parentNode.dataset.key) + '"] > summary';
		}
		return part.contains(focus) && focus.id ? '#' + focus.id : '';
	}

	function swap(part, fresh) {
		var open = {}, focus = focused(part), again;
		part.querySelectorAll('details[data-key]').forEach(function (each) { open[each.dataset.key] = each.open; });
		part.replaceChildren.apply(part, fresh.childNodes);
		part.querySelectorAll('details[data-key]').forEach(function (each) {
			if (each.dataset.key in open) { each.open = open[each.dataset.key]; }
		});
		again = focus && part.querySelector(focus);
		if (again) { again.focus(); }
	}

	function show(text) {
		var fresh = new DOMParser().parseFromString(text, 'text/html'), note = '';
		if (!fresh.getElementById('stability-checks')) { throw new Error('no such page'); }
		page.querySelectorAll('[data-part]').forEach(function (part) {
			var its = fresh.querySelector('#stability-checks [data-part=' + part.dataset.part + ']');
			if (!isInUse(part)) {
				swap(part, its);
			} else if (!fresh.querySelector('[data-busy]')) {
				note = 'Newer results are available. Reload the page after you have finished here.';
			}
		});
		say(note);
	}

	function later(pause) {
		window.clearTimeout(timer);
		if (page.querySelector('[data-busy]')) { timer = window.setTimeout(ask, pause); }
	}

	function ask() {
		if (document.hidden) { return; }
		fetch('manage_checks', { credentials: 'same-origin', cache: 'no-store', redirect: 'error' }).then(function (answer) {
			if (!answer.ok) { throw new Error('status ' + answer.status); }
			return answer.text();
		}).then(show).then(function () { later(PAUSE); }, function () {
			say('The server does not report the progress. Reload the page.');
			later(LONG_PAUSE);
		});
	}

	document.addEventListener('visibilitychange', function () { later(0); });
	later(PAUSE);
}());
