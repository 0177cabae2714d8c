from tests.chart.taken import write

write()
