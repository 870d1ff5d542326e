import subprocess,sys,time,json
from contextlib import closing
from agent.connection import BrokerSettings
from agent.link import Link, Pace
from agent.outbox import Outbox
from phasewatt.messages import Clock
from tests.fixtures.wire import *
from tests.fixtures.records import trial, trace
def test_real(mosquitto,tmp_path):
    h=subprocess.run([sys.executable,"-m","collector.app","serve","--help"],capture_output=True,text=True); print(h.stdout[-1500:])
    args=[sys.executable,"-m","collector.app","serve","--db",f"sqlite:///{tmp_path}/c.db","--broker",f"mqtt://127.0.0.1:{mosquitto.port}"]
    p=subprocess.Popen(args); 
    with closing(Outbox.open(tmp_path/'s',64<<20)) as o:
        for i in range(50): o.append([*events(20,name=f"n{i}"), trial(cell=f"c{i}"), telemetry()])
        l=Link(BrokerSettings(host=mosquitto.host,port=mosquitto.port),o,facts(),lambda:Clock(synchronised=None,offset_bound_s=None)); l.start()
        t=time.time(); print("drained",l.wait_drained(30),time.time()-t,o.rejected(),l.last_error)
        p.kill(); p.wait(); o.append(events(5)); l.notify(); time.sleep(1); p=subprocess.Popen(args)
        t=time.time(); print("after collector restart",l.wait_drained(40),time.time()-t)
        l.stop()
    p.terminate(); p.wait()
    print(subprocess.run([sys.executable,"-m","collector.app","devices","--json","--db",f"sqlite:///{tmp_path}/c.db"],capture_output=True,text=True))
