"""Make the golden files again, with the release at a commit of this repository.

    python tests/golden/make.py COMMIT      (Linux, root; see _how_made.txt)

Real Zopes end with each verdict.  They run in namespaces for mounts and the host name, so that no
path and no name of this machine gets into the files: they live below /srv, on a host with the name
"golden".
"""

import contextlib
import dataclasses
import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SRV = Path('/srv')
KIT, PYTHON, ENVIRONMENT, SITE = SRV / 'kit', SRV / 'python', SRV / 'zope', SRV / 'site'
OUTPUT, COPY = SRV / 'output', SRV / 'copy'
READER = SRV / 'reader'  # the commands use another Python than the site
HOST = 'golden'
MACHINE_ID = '0123456789abcdef0123456789abcdef\n'
# The clock when a finding is muted, in the year 2999: it is still muted when a test reads the file.
LATER = 32_500_000_000.0
RELEASE = '6.1.0-golden'  # replaces the release of this machine's kernel
PACKAGES = f'lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages'


# -- namespaces without traces of this machine -----------------------------------------------------


def outside(commit):
    """Start this program again in namespaces of its own, with the files of the writer as a tar on
    standard input.
    """
    checkout = HERE.parent.parent
    files = subprocess.run(
        ['git', 'archive', commit], cwd=checkout, check=True, capture_output=True
    ).stdout
    subprocess.run(
        [
            *('unshare', '--mount', '--uts', '--propagation', 'private'),
            *(sys.executable, __file__, '--inside', sys.base_prefix, sys.prefix),
        ],
        input=files,
        check=True,
    )


def inside(base_prefix, prefix):
    """Set up /srv, which only this process and its children see, and work there."""
    files = sys.stdin.buffer.read()
    socket.sethostname(HOST)
    mount('-t', 'tmpfs', 'golden', SRV)
    for folder in (KIT, PYTHON, OUTPUT, SRV / 'tmp'):
        folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(files)) as tar:
        tar.extractall(KIT, filter='data')
    mount('--bind', base_prefix, PYTHON)
    mount('--bind', HERE, OUTPUT)
    (SRV / 'machine-id').write_text(MACHINE_ID)
    mount('--bind', SRV / 'machine-id', '/etc/machine-id')
    for place in (ENVIRONMENT, READER):
        python = PYTHON / 'bin' / f'python{sys.version_info.major}.{sys.version_info.minor}'
        subprocess.run([python, '-m', 'venv', '--without-pip', place], check=True)
        mount('--bind', f'{prefix}/{PACKAGES}', place / PACKAGES)
        for link in (place / PACKAGES).glob('__editable__*.pth'):
            mount('--bind', '/dev/null', link)
    env = {
        'PATH': '/usr/bin:/bin',
        'HOME': str(SRV),
        'TMPDIR': str(SRV / 'tmp'),
        'LANG': 'C.UTF-8',
        'TZ': 'UTC',
        'PYTHONPATH': os.pathsep.join(map(str, (KIT, KIT / 'tests', KIT / 'tests/functional'))),
        'PYTHONDONTWRITEBYTECODE': '1',
    }
    program = [ENVIRONMENT / 'bin' / 'python', OUTPUT / 'make.py', '--work']
    subprocess.run(program, env=env, check=True, cwd=SRV)


def mount(*words):
    subprocess.run(['mount', *words], check=True)


# -- the scenes ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Scene:
    """One run of the site: its settings, what happens before its end, and how it ends."""

    name: str
    die: object
    before: object = None
    setting: object = None
    waits: bool = True  # wait until it answers
    around: object = None  # a context manager around the run and its triage
    script: str = ''  # the source of a script; a clean script runs before it


def work():
    import recorded
    from support import deaths
    from support.zopekit import ZopeInstance
    from support.zopekit import wait_for

    class GoldenSite(deaths.Site):
        """One instance for all scenes, with the pages that hang."""

        def create(self):
            super().create()
            hanging = (deaths.PRODUCTS / 'ways_to_hang.py').read_text()
            return self.publish(hanging, 'TestHanging')

    stalling = deaths.Setting(
        options=(('sample-interval', '100ms'), ('stall', '2s'), ('slow-request', '1s'))
    )

    def serve(site):
        """Send a few requests; some of them fail."""
        for path in ('/', '/clock', '/clock', '/nowhere', '/manage_main', '/clock'):
            site.get(path)

    def open_pages(site):
        """Request the pages that make the key, the results of the checks and the comparison in the
        data directory.
        """
        serve(site)
        site.get('/Control_Panel/StabilityMonitor/manage_checks')
        word = site.run_directory / 'checks.json'
        wait_for(word.exists, deaths.PATIENCE, 'the word of the checks')
        wait_for((site.stability / 'token.key').exists, deaths.PATIENCE, 'the key')
        wait_for((site.stability / 'compared.json').exists, deaths.PATIENCE, 'compared versions')

    def kinds(site):
        return [note.kind for note in site.recording().notes]

    def deadlock_and_slow(site):
        serve(site)
        for path in ('/take_from_stock', '/write_the_bill', '/sleep_long'):
            site.background(path)
        wait_for(
            lambda: 'deadlock' in kinds(site) and kinds(site).count('slow') >= 3,
            deaths.PATIENCE,
            'a deadlock and slow requests',
        )
        answer = site.get('/Control_Panel/StabilityMonitor/report?format=json')
        assert answer.status == 200
        recorded.store('reports/living.json.xz', neutral(answer.text))

    def hang_that_dissolves(site):
        asked = [site.background('/sleep_long?seconds=5') for _ in range(site.threads)]
        for one in asked:
            one.join()
        wait_for(
            lambda: {'hang', 'slow-ended'} <= set(kinds(site)), deaths.PATIENCE, 'a hang that ended'
        )
        site.get('/clock')

    def all_wait(site):
        serve(site)
        deaths.all_wait_for_a_lock(site)

    def marks(site):
        return list(site.run_directory.glob('deadman-*.mark'))

    def gil(site):
        for asked in [site.background('/meet') for _ in range(site.threads)]:
            asked.join()
        wait_for(lambda: len(marks(site)) >= site.threads, deaths.PATIENCE, 'the timers')
        site.background('/keep_gil?seconds=200')
        wait_for(
            lambda: (
                b'keep_gil' in b''.join(map(Path.read_bytes, marks(site)))
                and (site.run_directory / 'deadman.mark').read_bytes().strip(b'\0')
            ),
            deaths.PATIENCE,
            'what the thread and the heartbeat write of themselves',
        )

    def drill(site):
        page = site.get('/Control_Panel/StabilityMonitor/manage_drills').text
        form = dict(re.findall(r'name="(token|run)" value="(.*?)"', page))
        with contextlib.suppress(OSError, http.client.HTTPException):
            site.post('/Control_Panel/StabilityMonitor/manage_drill', form | {'drill': 'kill'})

    def by_itself(site):
        pass

    def damage(site):
        site.signal('SIGKILL')
        site.wait_exit()
        box = site.run_directory / 'blackbox.sbr'
        box.write_bytes(box.read_bytes()[:1000])

    scenes = [
        Scene('served-and-stopped', deaths.by('SIGINT'), open_pages),
        Scene('stopped-by-sigterm', deaths.by('SIGTERM'), serve),
        Scene('crashed', deaths.page('/segfault'), open_pages),
        Scene('crashed-in-main', deaths.page('/segfault_in_main')),
        Scene('stack-overflow', deaths.page('/overflow_stack'), serve),
        Scene('aborted', deaths.page('/abort'), serve),
        Scene('aborted-fatal-error', deaths.page('/fatal_error'), serve),
        Scene(
            'startup-failed',
            by_itself,
            setting=deaths.unlucky('raise-initialize'),
            waits=False,
        ),
        Scene('unhandled-exception', deaths.page('/raise_in_main'), serve),
        Scene('signalled', deaths.by('SIGHUP'), serve),
        Scene('outlived-a-signal', deaths.by('SIGKILL'), deaths.survived('SIGHUP'), deaths.NOHUP),
        Scene('host-restarted', deaths.reboot, serve),
        Scene('vanished', deaths.by('SIGKILL'), deaths.in_flight('/wait', '/wait')),
        Scene('drill', drill, setting=deaths.Setting(options=(('drills', 'on'),))),
        Scene('unreadable', damage, serve),
        Scene('hung', deaths.by('SIGTERM'), all_wait, stalling),
        Scene('hung-in-c-code', deaths.by('SIGKILL'), gil, stalling),
        Scene('deadlock-and-slow', deaths.by('SIGTERM'), deadlock_and_slow, stalling),
        Scene('hang-that-dissolved', deaths.by('SIGINT'), hang_that_dissolves, stalling),
        Scene(
            'out-of-memory',
            deaths.page('/eat_memory'),
            serve,
            around=lambda: deaths.memory_cgroup(300 << 20),
        ),
        Scene('crashed-script', None, script='import os; os.abort()'),
        Scene('orderly-stop', deaths.by('SIGINT'), open_pages),
    ]
    assert scenes[-1].name == recorded.WAITING
    for folder in ('runs', 'commands', 'reports'):
        shutil.rmtree(OUTPUT / folder, ignore_errors=True)
    site = GoldenSite(SITE).create()
    runs = {}
    with contextlib.ExitStack() as before:
        try:
            for scene in scenes:
                print(scene.name, flush=True)
                with contextlib.ExitStack() as now:
                    live(site, scene, now, before)
                    runs[scene.name] = site.run_directory.name
                    keep(site, scene.name)
                    before.push(now.pop_all())
        finally:
            ZopeInstance.destroy(site)
    expect(runs)
    pack_directory(site, runs)
    tell(runs)


def live(site, scene, now, before):
    """Do all of a scene.  Its start judges the run of the previous scene, whose context ends
    then.
    """
    from support import deaths

    if scene.script:
        for source in ('pass', scene.script):
            site.run_script(source)
            before.close()
        return
    setting = scene.setting or deaths.USUAL
    if scene.around:
        setting = deaths.inside(now.enter_context(scene.around()), setting)
    site.run_as(setting, wait=scene.waits)
    before.close()
    if scene.before:
        scene.before(site)
    scene.die(site)
    site.wait_exit()


def neutral(text):
    """Return a text without the release of the kernel and the name of the memory cgroup of this
    process.
    """
    text = text.replace(os.uname().release, RELEASE)
    for line in Path('/proc/self/cgroup').read_text().splitlines():
        _, kinds, group = line.split(':', 2)
        if kinds in ('memory', '') and group != '/':
            text = text.replace(group, '/site')
    return text


def neutralize(folder):
    """Do the same in text files; black boxes do not contain the release of the kernel."""
    for path in folder.rglob('*.json'):
        status = path.stat()
        path.write_text(neutral(path.read_text()))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# -- dead runs -------------------------------------------------------------------------------------


def keep(site, name):
    """Keep the directory of a dead run as it is, and what the system reports at this moment."""
    import recorded

    folder = SRV / 'kept' / name
    world, run = folder / 'world', site.run_directory
    shutil.copytree(run, folder / 'run' / run.name, ignore=shutil.ignore_patterns('questions'))
    proc = world / 'proc'
    (proc / 'sys/kernel/random').mkdir(parents=True)
    boot_id = Path('/proc/sys/kernel/random/boot_id').read_text()
    (proc / 'sys/kernel/random/boot_id').write_text(boot_id)
    for file, word in (('stat', 'btime'), ('vmstat', 'oom_kill')):
        lines = Path('/proc', file).read_text().splitlines()
        (proc / file).write_text(''.join(f'{line}\n' for line in lines if line.startswith(word)))
    (world / 'machine-id').write_text(MACHINE_ID)
    shutil.copy2(site.stderr_path, world / 'stderr.log')
    keep_kernel_log(world / 'kmsg', int(run.name.split('-')[1]))
    context = json.loads((run / 'context.json').read_text())
    keep_counter(world / 'cgroup', context.get('cgroup') or {})
    neutralize(folder)
    recorded.pack(f'runs/{name}', folder)


def keep_kernel_log(path, pid):
    descriptor = os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)
    kept = b''
    with contextlib.suppress(OSError):
        while record := os.read(descriptor, 8192):
            if f'Killed process {pid} '.encode() in record:
                kept = record  # a plain file may return only one record per read
    os.close(descriptor)
    path.write_bytes(kept)


def keep_counter(folder, group):
    if not group.get('directory'):
        return
    folder.mkdir()
    for name in ('memory.oom_control', 'memory.events'):
        with contextlib.suppress(OSError):
            (folder / name).write_text(Path(group['directory'], name).read_text())


def expect(runs):
    """Keep how the writer judges each dead run, unpacked as in a test, and the content of its black
    box.
    """
    import recorded

    from Products.StabilityMonitor import blackboxreader
    from Products.StabilityMonitor.errors import UnreadableRecord
    from Products.StabilityMonitor.postmortem.evidence import World
    from Products.StabilityMonitor.postmortem.triage import examine

    verdicts = {}
    for name in runs:
        dead = recorded.DeadRun.of(name, COPY / name)
        world = World(
            proc=dead.world / 'proc',
            kernel_log=dead.world / 'kmsg',
            machine_id=dead.world / 'machine-id',
        )
        record = dead.without_place(recorded.plain(examine(dead.path, world).to_json()))
        recorded.store(f'runs/{name}.record.json.xz', json.dumps(record, indent=1))
        try:
            box = recorded.plain(blackboxreader.load(dead.path / 'blackbox.sbr'))
        except UnreadableRecord as error:
            box = str(error)
        recorded.store(f'runs/{name}.blackbox.json.xz', json.dumps(box, indent=1))
        print(name, record['verdict'], record['confidence'], flush=True)
        verdicts.setdefault(record['verdict'], []).append(name)
    assert len(verdicts) == 12 and len(verdicts['hung']) == 2, verdicts


# -- data directories and the output of the command ------------------------------------------------


def pack_directory(site, runs):
    """Pack the data directory with all runs judged: by the next starts, and the last one by the
    command.
    """
    import recorded

    from Products.StabilityMonitor.diagnosis.hushed import Hushed
    from Products.StabilityMonitor.records import Instance

    command(site.stability, 'triage')
    archived = {path.parent.name for path in site.stability.glob('archive/*/summary.json')}
    assert archived == set(runs.values()), archived ^ set(runs.values())
    newest = site.stability / 'archive' / runs[recorded.WAITING] / 'summary.json'
    instance = Instance(**json.loads(newest.read_text())['instance'])
    hushed = Hushed(site.stability, instance.label, clock=lambda: LATER)
    hushed.hush('supervisor', 'It is started by hand.', '2999-12-01', 'admin')
    neutralize(site.stability)
    recorded.pack('stability', site.stability)
    recorded.store('runs/names.json', json.dumps(runs, indent=1) + '\n')


def command(directory, *words):
    """Run the command of the writer: (exit status, standard output)."""
    import recorded

    done = subprocess.run(
        [READER / 'bin' / 'python', '-m', 'Products.StabilityMonitor', '--directory', directory]
        + list(words),
        capture_output=True,
        text=True,
        env=recorded.environment(KIT),
        cwd=KIT,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def tell(runs):
    """Call the command for each data directory and each run, and keep its outputs."""
    import recorded

    asked = {
        f'{kind}-{"-".join(words).replace("--", "")}': (kind, words)
        for kind in ('archived', 'waiting', 'quiet', 'loop')
        for words in (
            ('status',),
            ('history',),
            ('checks',),
            ('checks', '--all'),
            ('checks', '--json'),
            ('report',),
            ('report', '--format', 'json'),
        )
    }
    for name, run in runs.items():
        asked[f'show-{name}'] = 'archived', ('show', run)
        asked[f'trace-{name}'] = 'archived', ('trace', run)
    for name in ('crashed', 'hung', 'deadlock-and-slow'):
        asked[f'report-{name}'] = 'archived', ('report', runs[name])
        asked[f'report-{name}-json'] = 'archived', ('report', runs[name], '--format', 'json')
    index = {}
    for name, (kind, words) in asked.items():
        directory = recorded.data_directory(kind, COPY / f'command-{name}' / 'stability')
        status, told = command(directory, *words)
        told = neutral(recorded.timeless(told, directory))
        index[name] = {'directory': kind, 'words': words, 'exit': status}
        ending = 'json.xz' if 'json' in words[-1] else 'txt'
        recorded.store(f'commands/{name}.{ending}', told)
    recorded.store('commands/index.json', json.dumps(index, indent=1) + '\n')


if __name__ == '__main__':
    if sys.argv[1] == '--inside':
        inside(*sys.argv[2:])
    elif sys.argv[1] == '--work':
        work()
    else:
        outside(sys.argv[1])
