/* The Report page: keeps the preview and the address of the new issue up to date while the form is
   filled in, and copies the preview.  Without scripts, "Update the preview" does the same. */
(function () {
	'use strict';

	var PAUSE = 500;
	var form = document.getElementById('stability-report'), done = document.getElementById('stability-done');
	var copy = document.getElementById('copy'), title = document.getElementById('title');
	var timer = 0, asked = null;

	function say(text) { done.textContent = text; }

	function show(text) {
		var fresh = new DOMParser().parseFromString(text, 'text/html');
		if (!fresh.getElementById('stability-report')) { throw new Error('no such page'); }
		document.querySelectorAll('[data-part]').forEach(function (part) {
			var its = fresh.querySelector('[data-part=' + part.dataset.part + ']'), open = part.querySelector('details[open]');
			part.replaceChildren.apply(part, its.childNodes);
			if (open && part.querySelector('details')) { part.querySelector('details').open = true; }
		});
		if (!title.value) { title.value = fresh.getElementById('title').value; }
	}

	function update() {
		var mine = asked = new AbortController();
		say('Making the report …');
		fetch('manage_report', { method: 'POST', body: new FormData(form), credentials: 'same-origin', cache: 'no-store',
			redirect: 'error', signal: mine.signal }).then(function (answer) {
			if (!answer.ok) { throw new Error('status ' + answer.status); }
			return answer.text();
		}).then(function (text) {
			if (mine === asked) { show(text); say(''); }
		}).catch(function () {
			if (mine === asked) { say('The preview is not up to date. Press "Update the preview".'); }
		});
	}

	/* What was typed last is not in its address. */
	function closeTracker() {
		var link = document.getElementById('open-tracker');
		if (link) {
			link.classList.add('disabled');
			link.setAttribute('aria-disabled', 'true');
		}
	}

	function later() {
		closeTracker();
		window.clearTimeout(timer);
		if (asked) { asked.abort(); asked = null; }
		timer = window.setTimeout(update, PAUSE);
	}

	/* Browsers offer the clipboard to secure pages only; the old way works on all. */
	function copied(text) {
		var box = document.createElement('textarea'), isDone;
		if (navigator.clipboard && window.isSecureContext) { return navigator.clipboard.writeText(text); }
		box.value = text;
		box.className = 'sr-only';
		document.body.appendChild(box);
		box.select();
		isDone = document.execCommand('copy');
		box.remove();
		return isDone ? Promise.resolve() : Promise.reject(new Error('refused'));
	}

	function copyNow(id) {
		copied(document.getElementById(id).textContent).then(function () { say('Copied.'); }, function () {
			say('The browser did not allow to copy. Select the text of the preview and press Ctrl+C.');
		});
	}

	copy.hidden = false;
	copy.addEventListener('click', function () { copyNow('stability-preview'); });
	form.addEventListener('input', later);
	form.addEventListener('change', function (event) {
		if (event.target.id === 'about') { title.value = ''; }
		/* The "change" of a text comes when it is left, as by the click on the tracker. */
		if (event.target.matches('select, [type=checkbox]')) { later(); }
	});
	document.addEventListener('click', function (event) {
		var link = event.target.closest('#open-tracker');
		if (link && link.classList.contains('disabled')) { event.preventDefault(); } else if (link) { copyNow('stability-issue'); }
	});
}());
