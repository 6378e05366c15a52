"""Difficult PDFs, drawn by reportlab: what courts, contracts, annexes and foreign gazettes look like."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

LEFT_TEXT = (
    "The plaintiff sold bread to the defendant under a contract of sale dated the first of March. The defendant "
    "refused the delivery because the loaves were stale when they arrived at the door of the shop. The trial court "
    "found that the contract required fresh bread and that the plaintiff had failed to deliver it. We review the "
    "finding for clear error and the construction of the contract de novo."
)
RIGHT_TEXT = (
    "On appeal the plaintiff argues that stale bread remains fit for toasting and that the defendant should have "
    "mitigated its loss. The argument has no merit. A buyer of fresh bread is not obliged to accept another thing, "
    "and the duty to mitigate arises only after a breach by the other party. The judgment of the trial court is "
    "therefore affirmed with costs."
)
THIRD_TEXT = (
    "A dissenting judge would hold that the delivery was late by no more than an hour, that an hour does not make "
    "a loaf stale in any ordinary sense of that word, and that the buyer had waived the complaint by his long "
    "silence. The majority does not reach that question at all."
)


def canvas_at(path: Path, title: str = "") -> Any:
    """An A4 page to draw on; the same bytes each time."""
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), pagesize=(595, 842), invariant=1)
    canvas.setTitle(title)
    return canvas


def lines_of(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters."""
    return textwrap.wrap(text, width)


def two_columns(path: Path, order: str, texts: tuple[str, ...] = (LEFT_TEXT, RIGHT_TEXT)) -> Path:
    """A heading over the page, then columns, drawn column by column or line by line."""
    canvas = canvas_at(path)
    canvas.setFont("Times-Bold", 14)
    canvas.drawString(72, 790, "COURT OF APPEAL FOR THE DISTRICT OF BREAD AND ROLLS, SECOND PANEL")
    canvas.setFont("Times-Roman", 10)
    step = 460 / len(texts)
    width = int((step - 24) / 4.5)
    columns = [lines_of(text, width) for text in texts]
    marks = [
        (72 + step * at, 760 - 12 * row, line)
        for at, lines in enumerate(columns)
        for row, line in enumerate(lines)
    ]
    if order == "rows":
        marks.sort(key=lambda mark: (-mark[1], mark[0]))
    for x, y, line in marks:
        canvas.drawString(x, y, line)
    canvas.save()
    return path


def pleading(path: Path, pages: int = 3) -> Path:
    """Pleading paper: 1 to 28 in the margin, a filing stamp at the top, a page number, double spacing."""
    canvas = canvas_at(path, "Motion")
    for page in range(1, pages + 1):
        canvas.setFont("Helvetica", 8)
        canvas.drawString(
            150,
            820,
            f"Case 1:20-cv-01234-ABC   Document {page + 4}   Filed 03/0{page}/20   Page {page} of {pages}",
        )
        canvas.setFont("Times-Roman", 12)
        for number in range(1, 29):
            canvas.drawRightString(60, 790 - 26 * (number - 1), str(number))
        body = lines_of(
            f"{page}. The plaintiff states in paragraph {page} that the oven cost 28 dollars in 1999 and that "
            + (LEFT_TEXT, RIGHT_TEXT, THIRD_TEXT)[page % 3],
            75,
        )
        for at, line in enumerate(body):
            canvas.drawString(90, 790 - 26 * at, line)
        canvas.drawCentredString(300, 30, f"- {page} -")
        canvas.showPage()
    canvas.save()
    return path


def annex(path: Path) -> Path:
    """An annex: text, a table of figures, a table whose cells wrap, text."""
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

    styles = getSampleStyleSheet()
    body = styles["BodyText"]
    fees = [["Type of bread", "Weight (g)", "Fee (EUR)", "Year"]] + [
        [name, str(weight), f"{weight / 100:.2f}", str(2000 + weight % 7)]
        for name, weight in (("Rye loaf", 750), ("Wheat loaf", 500), ("Spelt roll", 90), ("Corn bread", 1200))
    ]
    duties = [
        ["Duty", "Who is responsible", "When it is due"],
        *(
            [Paragraph(a, body), Paragraph(b, body), Paragraph(c, body)]
            for a, b, c in (
                ("Cleaning of the oven and of all the trays in the bakery", "The baker", "Every evening before the doors of the bakery are closed"),
                ("Report of stale bread to the authority of the district", "The keeper of the shop, or a person named by the keeper in writing", "Within two days"),
                ("Training of new staff", "The master baker", "In the first month of the contract"),
            )
        ),
    ]  # fmt: skip
    story = [
        Paragraph("ANNEX II", styles["Heading1"]),
        Paragraph("Section 1 Fees", styles["Heading2"]),
        Paragraph("The fees in the table below are due for each loaf that is sold in the district.", body),
        Table(fees),
        Spacer(1, 8),
        Paragraph("Section 2 Duties", styles["Heading2"]),
        Paragraph("The persons named in the table below shall do what it says.", body),
        Table(duties, colWidths=[150, 150, 150]),
        Spacer(1, 8),
        Paragraph("This Annex enters into force on 1 January.", body),
    ]
    SimpleDocTemplate(str(path), title="Bread Annex", invariant=1).build(story)
    return path


def margin_notes(path: Path) -> Path:
    """A statute with notes in small print beside its sections."""
    canvas = canvas_at(path, "Bread Act")
    y = 780.0
    for number, (note, text) in enumerate(
        (("Short title.", LEFT_TEXT), ("Duty to deliver fresh bread.", RIGHT_TEXT), ("Dissent.", THIRD_TEXT)),
        start=1,
    ):
        canvas.setFont("Times-Roman", 7)
        for at, line in enumerate(lines_of(note, 18)):
            canvas.drawString(40, y - 8 * at, line)
        canvas.setFont("Times-Roman", 11)
        for line in lines_of(f"{number}. {text}", 80):
            canvas.drawString(130, y, line)
            y -= 13
        y -= 12
    canvas.save()
    return path


def contract(path: Path) -> Path:
    """A contract as American firms print it: recitals, run-in titles, nested points, a schedule."""
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate

    styles = getSampleStyleSheet()
    body, small = styles["BodyText"], styles["Heading3"]
    story = [
        Paragraph("SUPPLY AGREEMENT", styles["Title"]),
        Paragraph("This Supply Agreement is made between Mill Inc. and Baker LLC.", body),
        Paragraph("WHEREAS, the Seller mills flour of many kinds; and", body),
        Paragraph("WHEREAS, the Buyer wishes to buy it;", body),
        Paragraph("NOW, THEREFORE, the parties agree as follows:", body),
        Paragraph("1. Definitions. In this Agreement “Flour” means milled wheat or rye.", body),
        Paragraph("“Term” has the meaning given in Section 2.", body),
        Paragraph("2. Term. This Agreement runs for three years from the date of signature.", body),
        Paragraph("3. Delivery. The Seller shall deliver the Flour:", body),
        Paragraph("(a) in bags of 25 kilograms; and", body),
        Paragraph("(b) to the Buyer’s mill:", body),
        Paragraph("(i) on weekdays, or", body),
        Paragraph("(ii) on the first Saturday of the month.", body),
        Paragraph(
            "4. Price. The Buyer shall pay the prices in Schedule 1. Section 3 shall apply to delay.", body
        ),
        Paragraph("SCHEDULE 1", small),
        Paragraph("Prices", small),
        Paragraph("1. Wheat. The price of wheat flour is 12 dollars a bag.", body),
        Paragraph("2. Rye. The price of rye flour is 14 dollars a bag.", body),
    ]
    SimpleDocTemplate(str(path), title="Supply Agreement", invariant=1).build(story)
    return path


CHINESE = [
    "第一章 总则",
    "第一条 为了保护面包买受人的合法权益，规范面包的生产和销售，促进面包业的健康发展，根据宪法，制",
    "定本法。",
    "第二条 本法所称面包，是指以面粉为主要原料烘焙的食品。出卖人应当交付新鲜的面包！买受人有权拒绝吗？",
    "依照第一条的规定处理。",
    "第二章 法律责任",
    "第三条 违反本法规定的，处五百元以上二千元以下的罚款；情节严重的，吊销许可证。",
]


def chinese(path: Path) -> Path:
    """A statute in Chinese, in a font that every PDF reader brings along."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont

    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    canvas = canvas_at(path, "面包法")
    canvas.setFont("STSong-Light", 10)
    for at, line in enumerate(CHINESE):
        canvas.drawString(72, 780 - 14 * at, line)
    canvas.save()
    return path


HEBREW = ["סעיף 1", "המוכר ימסור לקונה לחם טרי בכל יום.", "סעיף 2", "הקונה ישלם 900 שקלים לחודש."]


def hebrew(path: Path) -> Path:
    """A contract in Hebrew, set to the right; DejaVu comes with matplotlib."""
    import matplotlib
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    pdfmetrics.registerFont(TTFont("DejaVu", str(font)))
    canvas = canvas_at(path, "חוזה לחם")
    canvas.setFont("DejaVu", 11)
    for at, line in enumerate(HEBREW):
        canvas.drawRightString(520, 780 - 16 * at, _visual(line))
    canvas.save()
    return path


def _visual(line: str) -> str:
    """As it is seen from left to right: letters reversed, numbers not."""
    return " ".join(word if word.isdigit() else word[::-1] for word in reversed(line.split()))
