/* The Threads page: refreshes it without a reload, if the switch is on and the page is visible.
   Without scripts, reloading the page does the same. */
(function () {
	'use strict';

	var PAUSE = 2000, BUSY_PAUSE = 1000, PATIENCE = 4;
	var box = document.getElementById('stability-refresh'), wanted = document.getElementById('stability-refresh-switch');
	var noAnswer = document.getElementById('stability-no-answer');
	var run = (document.querySelector('[data-run]') || { dataset: {} }).dataset.run;
	var note = '';

	function say(text) {
		noAnswer.textContent = text;
		noAnswer.hidden = !text;
	}

	/* Details that are open stay open, and closed details stay closed. */
	function states(part) {
		var open = {};
		part.querySelectorAll('details[data-key]').forEach(function (each) { open[each.dataset.key] = each.open; });
		return open;
	}

	function isInUse(part) {
		var selection = window.getSelection();
		return !selection.isCollapsed && part.contains(selection.anchorNode);
	}

	/* A selector that finds the element with the focus again after a part was replaced. */
	function focused(part) {
		var focus = document.activeElement;
		if (part.contains(focus) && focus.matches('summary')) {
			return 'details[data-key="' + CSS.escape(focus.parentNode.dataset.key) + '"] > summary';
		}
		if (part.contains(focus) && focus.matches('a')) {
			return 'a[href^="' + focus.getAttribute('href').split('&samples')[0] + '"]';
		}
		return '';
	}

	function swap(part, text) {
		var open = states(part), focus = focused(part), again;
		if (isInUse(part)) { return; }
		part.replaceChildren.apply(part, new DOMParser().parseFromString(text, 'text/html').body.childNodes);
		part.querySelectorAll('details[data-key]').forEach(function (each) {
			if (each.dataset.key in open) { each.open = open[each.dataset.key]; }
		});
		again = focus && part.querySelector(focus);
		if (again) { again.focus(); }
	}

	/* One part of the page: fetches its fragment repeatedly while `isOn()`, one request at a time. */
	function Part(element, isOn, pause) {
		var timer = 0, asked = null;

		function later() {
			window.clearTimeout(timer);
			timer = window.setTimeout(ask, pause);
		}

		function ask() {
			if (asked || document.hidden || !isOn()) { return; }
			var since = Date.now(), mine = asked = new AbortController();
			var watch = window.setInterval(function () {
				var seconds = Math.floor((Date.now() - since) / 1000);
				if (seconds >= PATIENCE) {
					say('No answer for ' + seconds + ' s: all workers may be busy. To see the threads anyway, run this '
						+ 'command in a shell:  ' + noAnswer.dataset.command);
				}
			}, 500);
			fetch(element.dataset.fragment, { credentials: 'same-origin', cache: 'no-store', redirect: 'error',
				signal: mine.signal }).then(function (answer) {
				if (!answer.ok) { throw { refusal: answer.status }; }
				return answer.text();
			}).then(function (text) {
				swap(element, text);
				var state = element.querySelector('[data-run]');
				if (state && state.dataset.run !== run) {
					run = state.dataset.run;
					note = 'Another process answers now: Zope was restarted, or several processes serve this site.';
				}
				say(note);
			}, function (error) {
				if (error.name === 'AbortError') { return; }
				say(error.refusal
					? 'The server refused the request (status ' + error.refusal + '). Reload the page.'
					: 'The server cannot be reached: it may have ended. Run "stabilitymonitor status" in a shell for details.');
			}).then(function () {
				window.clearInterval(watch);
				if (asked === mine) { asked = null; }
				later();
			});
		}

		function stop() {
			window.clearTimeout(timer);
			if (asked) { asked.abort(); asked = null; }
		}

		return { ask: ask, later: later, stop: stop };
	}

	var live = Part(document.getElementById('stability-live'), function () { return wanted.checked; }, PAUSE);
	var nativePart = document.getElementById('stability-native');
	var native = Part(nativePart, function () { return nativePart.querySelector('[data-busy]') !== null; }, BUSY_PAUSE);

	box.hidden = false;
	wanted.addEventListener('change', function () {
		note = '';
		if (wanted.checked) { live.ask(); } else { live.stop(); say(''); }
	});
	document.addEventListener('visibilitychange', function () {
		if (document.hidden) { live.stop(); native.stop(); } else { live.ask(); native.ask(); }
	});
	native.later();
}());
