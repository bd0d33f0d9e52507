"""Write the JSON Schema of the report: run this after a change of its annotations.

python tools/report_schema.py

The annotations are in Products/StabilityMonitor/reporting/reportdocument.py, and in the model.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from Products.StabilityMonitor.reporting import reportschema

if __name__ == '__main__':
    reportschema.FILE.write_text(reportschema.schema_text(), 'utf-8')
    print(f'Written: {reportschema.FILE}')
